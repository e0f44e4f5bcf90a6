"""The command line: ``forwardpass serve | predict | run | import | tune | optimize | inspect | models | bench``.

One file per command; each imports what it needs only when it runs, so that ``--help`` is instant.
"""

from forwardpass.cli.main import main

__all__ = ["main"]
