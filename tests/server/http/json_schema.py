"""As much of JSON Schema as our OpenAPI document uses: enough to hold real bodies against it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
KNOWN = {
    "type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "anyOf",
    "const", "enum", "minimum", "maximum", "exclusiveMinimum", "maxLength", "description", "contentEncoding", "format",
}  # fmt: skip


def mistakes(schema: dict[str, Any], value: Any, where: str = "body") -> list[str]:
    """What is wrong with the value; raises ``AssertionError`` for a keyword that is not known here."""
    assert not set(schema) - KNOWN, f"unknown keywords: {set(schema) - KNOWN}"
    if "anyOf" in schema:
        found = [mistakes(choice, value, where) for choice in schema["anyOf"]]
        return [] if any(not wrong for wrong in found) else min(found, key=len)
    if "type" in schema and not _is_of(schema["type"], value):
        return [f"{where}: {value!r} is not {schema['type']}"]
    return _plain(schema, value, where) + _members(schema, value, where)


def _is_of(kinds: str | list[str], value: Any) -> bool:
    names = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, TYPES[name]) for name in names)


def _plain(schema: dict[str, Any], value: Any, where: str) -> list[str]:
    checks: dict[str, Callable[[Any], bool]] = {
        "const": lambda limit: value == limit,
        "enum": lambda limit: value in limit,
        "minimum": lambda limit: value is None or value >= limit,
        "maximum": lambda limit: value is None or value <= limit,
        "exclusiveMinimum": lambda limit: value > limit,
        "maxLength": lambda limit: len(value) <= limit,
        "minItems": lambda limit: len(value) >= limit,
        "maxItems": lambda limit: len(value) <= limit,
    }
    return [
        f"{where}: {value!r} against {key} {schema[key]!r}"
        for key, holds in checks.items()
        if key in schema and not holds(schema[key])
    ]


def _members(schema: dict[str, Any], value: Any, where: str) -> list[str]:
    wrong: list[str] = []
    if isinstance(value, dict):
        known = schema.get("properties", {})
        wrong += [f"{where}: {name!r} is missing" for name in schema.get("required", []) if name not in value]
        if schema.get("additionalProperties") is False:
            wrong += [f"{where}: {name!r} is not known" for name in value if name not in known]
        for name in set(known) & set(value):
            wrong += mistakes(known[name], value[name], f"{where}.{name}")
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        for index, item in enumerate(value):
            each = first[index] if index < len(first) else schema.get("items", {})
            wrong += mistakes(each, item, f"{where}[{index}]")
    return wrong
