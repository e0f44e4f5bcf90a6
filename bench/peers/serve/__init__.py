"""One file per peer: the three models served as the peer's own documentation recommends for throughput.

Runs in the peer's environment, never in ours. What to serve comes by environment variables (``model``).
"""
