"""``python -m forwardpass.edge agent …``: an agent whose models are all on the device."""

from __future__ import annotations

import sys

from forwardpass.edge.main import main

if __name__ == "__main__":
    sys.exit(main())
