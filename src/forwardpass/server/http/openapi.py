"""The OpenAPI document of what is served right now, with each model's own inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forwardpass.server.served import ServedModel


def document(served: Sequence[ServedModel], url: str) -> dict[str, Any]:
    """OpenAPI 3.1 of the server at ``url``."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Forwardpass", "version": "1"},
        "servers": [{"url": url}],
        "paths": {},
    }
