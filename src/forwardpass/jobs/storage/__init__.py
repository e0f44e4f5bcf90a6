"""Where data sets lie: the file system, or an object store. ``create_storage`` picks by the URL."""

from __future__ import annotations

from forwardpass.jobs.storage.base import Entry, Storage

__all__ = ["Entry", "Storage", "create_storage", "is_remote"]

_LOCAL = "file://"


def is_remote(url: str) -> bool:
    """Whether a URL names an object store (``s3://bucket/key``) rather than the file system."""
    return "://" in url and not url.startswith(_LOCAL)


def create_storage(url: str) -> Storage:
    """The storage that a path or URL lies in. Raises ``InvalidInput`` for a scheme that is not known."""
    if is_remote(url):
        from forwardpass.jobs.storage.objects import ObjectStorage

        return ObjectStorage(url)
    from forwardpass.jobs.storage.local import LocalStorage

    return LocalStorage()
