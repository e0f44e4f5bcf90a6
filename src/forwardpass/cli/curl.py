"""The ``curl`` line that asks a served model for a prediction, to be pasted into a shell as it is.

In flow an address and what a model says of itself, out flows one line. It sends the model's own
sample where there is one, else a request made from its signature.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from forwardpass.cli.example import example_instance
from forwardpass.types import ModelInfo, Sample, Signature

LONGEST = 1000  # characters of a body that stands in the line itself
JSON = "application/json"


def curl_line(base: str, name: str, info: ModelInfo, signature: Signature) -> str:
    """A line for the newest version of ``name`` at ``base`` (``http://host:port``)."""
    url = f"{base}/v1/models/{name}:predict"
    if info.sample is None:
        return _with_body(url, {"instances": [example_instance(signature)]})
    body = _short_json(info.sample)
    return _with_body(url, body) if body is not None else _with_file(url, info.sample)


def _short_json(sample: Sample) -> Any:
    """The body of a JSON sample that fits into the line, else None."""
    if sample.content_type != JSON:
        return None
    try:
        body = json.loads(Path(sample.file).read_bytes())
    except (OSError, ValueError):
        return None
    return body if len(_dumps(body)) <= LONGEST else None


def _with_file(url: str, sample: Sample) -> str:
    file = Path(sample.file)
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return f"{_curl(url, sample.content_type)} --data-binary {shlex.quote(f'@{shown}')}"


def _with_body(url: str, body: Any) -> str:
    """The body in the line or, where it is long (mostly zeros), written by a line of Python."""
    text = _dumps(body)
    if len(text) <= LONGEST:
        return f"{_curl(url, JSON)} -d {shlex.quote(text)}"
    program = f"import json; print(json.dumps({_expression(body)}))"
    return f"python3 -c {shlex.quote(program)} | {_curl(url, JSON)} --data-binary @-"


def _curl(url: str, content_type: str) -> str:
    return f"curl {shlex.quote(url)} -H {shlex.quote(f'content-type: {content_type}')}"


def _dumps(body: Any) -> str:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def _expression(value: Any) -> str:
    """Python for a value; a list of equal items is written as a product."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_dumps(key)}: {_expression(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        if len(value) > 1 and all(item == value[0] for item in value):
            return f"[{_expression(value[0])}]*{len(value)}"
        return f"[{', '.join(map(_expression, value))}]"
    return _dumps(value) if isinstance(value, str) else repr(value)
