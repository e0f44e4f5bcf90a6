"""The edge: one signed file with a model in it becomes predictions on a device, with or without a network.

In flow a model folder (``build``), then on the device the bundle, rows from its inputs and updates; out flow
answers, what the rules of ``model.yaml`` make of them, and, as far as the device may tell, what it saw. It
knows no gateway, and none of the libraries that serve many, run jobs or talk to a terminal.
"""
