"""Backends run an artifact on a batch: columns in, columns out.

One file per library, each importing its library itself and only there. ``create_backend`` picks
by the name in ``model.yaml``, else by how the file is called. Nothing here knows pipelines,
requests or processes.
"""

from forwardpass.backends.base import Backend, create_backend

__all__ = ["Backend", "create_backend"]
