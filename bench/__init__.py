"""Measures ``forwardpass serve`` against raw inference, a plain FastAPI server and nginx.

``python -m bench`` runs everything in one go and writes ``docs/benchmarks.md``. Reading order:
``measures`` (what is compared), ``load`` (how requests are sent), ``raw``, ``plain_server`` and
``nginx`` (what it is compared with), ``models`` (what is run), ``table`` (what is written).
Talks to Forwardpass only over HTTP, as any client does.
"""

import os

# Models run as they are, whatever this machine remembers of them, and nothing is tuned meanwhile.
os.environ["XDG_CACHE_HOME"] = os.path.abspath("build/bench/cache")
os.environ["FORWARDPASS_TUNE_AFTER"] = "0"
