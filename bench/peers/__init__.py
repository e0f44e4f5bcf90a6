"""Measures ``forwardpass serve`` against the servers that its users would otherwise choose.

``python -m bench.peers`` builds an environment for each peer, serves the same three models with each,
and writes the section "Peers" of ``docs/benchmarks.md``. Reading order: ``peers`` (who, and how it is
asked), ``serve`` (each peer's server), ``visit`` (one start and what is measured in it), ``table``.
"""
