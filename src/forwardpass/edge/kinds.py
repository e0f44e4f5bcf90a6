"""Kinds of inputs and outputs by the ``type`` of an entry in ``agent.yaml``, each loaded when an entry names it.

A kind is a class in a module of its own, with the dataclass ``Config`` that says what it takes. Knows none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from forwardpass.config import decode, decode_mapping
from forwardpass.edge.distribution import HERE
from forwardpass.errors import InvalidSettings, nearest

Kinds = Mapping[str, tuple[str, str, str]]  # type -> (module, class, the extra that brings its library)


def load(kinds: Kinds, what: str, entry: Mapping[str, Any]) -> tuple[Any, Any]:
    """The class that an entry of ``what`` names, and its settings.

    Raises ``InvalidSettings`` for an unknown type or key, a value that makes no sense, or a library that is not
    installed.
    """
    kind = str(decode_mapping(entry, what, InvalidSettings).get("type", ""))
    if kind not in kinds:
        raise InvalidSettings(f"{what}: there is no type {kind!r}.{nearest(kind, kinds)}")
    cls = _class(what, kind, *kinds[kind])
    rest = {key: value for key, value in entry.items() if key != "type"}
    return cls, decode(cls.Config, rest, f"{what}: {kind}", InvalidSettings)


def _class(what: str, kind: str, module: str, name: str, extra: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        if not extra:
            raise
        raise InvalidSettings(
            f"{what}: {kind} needs {error.name!r}, which is not installed: {HERE.how_to_get(extra)}"
        ) from None
