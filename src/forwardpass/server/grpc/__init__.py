"""The gRPC door: the Open Inference Protocol, health and reflection on a port of their own.

In flow messages, out flow messages; rows go to the same data plane as over HTTP. Knows nothing of
batches and workers. Nothing outside imports it before the door is opened: the library is large.
"""
