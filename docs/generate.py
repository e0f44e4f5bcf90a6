"""Writes ``docs/model-yaml.md`` from the code: every key of ``model.yaml``, every step, every parameter.

    python docs/generate.py           write it
    python docs/generate.py --check   exit 1 where it is not what the code says

The text comes from field documentation (``config.doc``) and the steps' docstrings; the example at
the top is decoded and opened by a test.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from forwardpass.config import ActionConfig, EscalationConfig, InputConfig, Limits, ModelConfig, RemoteConfig
from forwardpass.pipeline import Step, step_classes

PAGE = Path(__file__).parent / "model-yaml.md"

EXAMPLE = """\
description: Ticket text and amount → what to do with it

inputs:                       # as callers send them; checked before anything runs
  text: {type: text, max_length: 10000}
  amount: {type: number, minimum: 0, required: false}

preprocess:                   # from inputs to what the artifact takes
  - step: normalise_text
    lower: true
  - step: tokenise
    max_length: 128
  - step: impute
    values: {amount: 25}

postprocess:                  # from what the artifact gives to answers
  - step: softmax
    input: logits
    output: probabilities
  - step: arg_max
    input: probabilities
    output: label
    largest: confidence
  - step: labels
    input: label
    labels: [refund, question, complaint]
  - step: unknown_below
    confidence: confidence
    at_least: 0.6
  - step: round
    input: confidence
    decimals: 4

outputs: [label, confidence]  # what is answered, in this order

limits:
  max_batch_size: 16
  timeout: 5
"""

INTRODUCTION = """\
# model.yaml

`model.yaml` lies beside an artifact and says what callers send, what happens before and after the
forward pass, and the model's limits. It is optional: without it a model is served from the
artifact's own metadata. Every key is optional too, unless its table says *required*. An unknown key
or a value of the wrong type stops the model from loading, with a message that names it.

```yaml
"""

COMPOSED = """\
## Models without an artifact

A folder whose `model.yaml` has `cascade` or `remote` needs no artifact; see [gateway.md](gateway.md).

```yaml
cascade: [small, large]       # models of the same server, the cheapest first
escalation:
  confidence: probabilities   # output of the first
  threshold: 0.9
```

```yaml
remote:
  urls: [https://one.example:8000, https://two.example:8000]
```
"""

STEPS = """\
## Steps

`preprocess` and `postprocess` are lists of steps. Each entry names a step and gives its parameters;
steps run in order, on columns with one value (or one array) per row. A step reads columns by name
and writes others, or replaces the one it read. When the model loads, every step is checked against
the columns that are there, so that a wrong name or type is found before the first request.

Where no `outputs` are given, the artifact's outputs and everything that postprocessing wrote are
answered.

### Your own steps

A function in a `steps.py` beside `model.yaml` is a step under its own name; its keyword-only
arguments are its parameters.

```python
import numpy as np
from forwardpass import step

@step(reads=["text"], writes={"words": "INT64"})
def count_words(columns, *, least: int = 0):
    counts = [max(least, len(text.split())) for text in columns["text"]]
    return {"words": np.array(counts, dtype=np.int64)}
```

`writes` gives each column its element type, with the shape of one row where that is no single value:
`"INT64"`, `"FP32[3]"`, `"FP32[3,224,224]"`, `"FP32[?,4]"` (`?` is a free axis). A list of names
instead keeps the types and shapes that these columns have.

`columns` holds numpy arrays by name, whose first axis is the rows. Return as many rows as came in,
in the same order, and do not change what was given. Raise
`forwardpass.errors.InvalidRows({row: "what is wrong"})` to refuse single rows.
"""

_ROOMS = {
    "columns": "Any column",
    "tabular": "Tables",
    "text": "Text",
    "image": "Images",
    "ink": "Handwriting",
    "outputs": "Outputs and decisions",
}


_PLURALS = {
    "text": "texts",
    "number": "numbers",
    "whole number": "whole numbers",
    "text or whole number": "texts or whole numbers",
    "keys below": "mappings, keys below",
    "step": "steps",
}


def page() -> str:
    """The whole page."""
    parts = [
        INTRODUCTION + EXAMPLE + "```",
        "## Keys\n\n" + table(ModelConfig),
        "### Keys of one input\n\n`inputs` maps each input's name to these.\n\n" + table(InputConfig),
        "### Keys of `limits`\n\n" + table(Limits),
        COMPOSED.rstrip(),
        "### Keys of `escalation`\n\n" + table(EscalationConfig),
        "### Keys of `remote`\n\n" + table(RemoteConfig),
        "### Keys of one of the `actions`\n\n" + table(ActionConfig),
        STEPS.rstrip(),
        *step_sections(),
    ]
    return "<!-- written by docs/generate.py; do not edit -->\n\n" + "\n\n".join(parts) + "\n"


def step_sections() -> Iterator[str]:
    """A heading per module, in the order of a request, then its steps as the file has them."""
    for module, title in _ROOMS.items():
        yield f"### {title}"
        steps = [cls for cls in step_classes().values() if cls.__module__.endswith(f".{module}")]
        yield from (step_section(cls) for cls in sorted(steps, key=lambda cls: inspect.getsourcelines(cls)[1]))


def step_section(cls: type[Step]) -> str:
    return f"#### `{cls.name}`\n\n{inspect.cleandoc(cls.__doc__ or '')}\n\n{table(cls)}"


def table(cls: type[Any]) -> str:
    """The fields of a dataclass as a table: name, type, default, what it is."""
    hints = typing.get_type_hints(cls)
    lines = ["| key | type | default | |", "| --- | --- | --- | --- |"]
    for item in dataclasses.fields(cls):
        cells = (f"`{item.name}`", type_name(hints[item.name]), default_of(item), item.metadata.get("doc", ""))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def type_name(hint: Any) -> str:
    """A type in the words of YAML."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(item) for item in inner if item is not type(None))
    if origin is typing.Literal:
        return one_of(inner)
    if origin is tuple:
        count = "" if inner[-1] is Ellipsis else f"{len(inner)} "
        return f"list of {count}{_PLURALS.get(type_name(inner[0]), type_name(inner[0]))}"
    if origin is dict:
        return "step" if inner[1] is Any else f"name: {type_name(inner[1])}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return one_of(item.value for item in hint)
    if dataclasses.is_dataclass(hint):
        return "keys below"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "value"}
    return names.get(hint, str(hint))


def one_of(values: Iterable[Any]) -> str:
    return " or ".join(f"`{value}`" for value in values)


def default_of(item: dataclasses.Field[Any]) -> str:
    """The default as YAML; empty where leaving it out has a meaning of its own."""
    value = item.default
    if item.default_factory is not dataclasses.MISSING:
        value = item.default_factory()
    elif value is dataclasses.MISSING:
        return "*required*"
    if value in (None, "", (), {}) or dataclasses.is_dataclass(value):
        return ""
    plain = value.value if isinstance(value, Enum) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
    return f"`{text}`"


def main() -> int:
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    fresh = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
    if not fresh:
        sys.stderr.write(f"{PAGE.name} is not what the code says; run `make docs`\n")
    return 0 if fresh else 1


if __name__ == "__main__":
    raise SystemExit(main())
