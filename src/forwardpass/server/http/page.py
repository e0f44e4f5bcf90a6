"""The page at ``/``: the models, with a form to try each. Files only, no templates, strict policy."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response

from forwardpass.errors import NotFound

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def file(name: str) -> Response:
    """One of the page's own files. Raises ``NotFound`` for anything else."""
    path = _FOLDER / name
    if path.parent != _FOLDER or path.suffix not in _TYPES or not path.is_file():
        raise NotFound(f"there is no file {name!r} here")
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=_HEADERS)
