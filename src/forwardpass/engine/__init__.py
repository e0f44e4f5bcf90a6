"""The engine: one loaded version, ready; and the worker processes that hold one.

In flow batches of rows, out flow batches of answers with the time of each stage. Knows no
protocol, no queue and no other model. A front uses only the handles on workers, and must not pay
for importing all steps: so nothing is imported here.
"""
