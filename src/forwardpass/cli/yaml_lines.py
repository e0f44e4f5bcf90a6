"""Where in ``model.yaml`` an error lies: from the keys that a message names to a line.

In flow the text of the file and a message of the loader, out flows a line number. Reads positions
only; what is allowed in the file is decided elsewhere.
"""

from __future__ import annotations

import re

import yaml

Keys = list[str | int]


def line_of(text: str, message: str) -> int | None:
    """The line (from 1) of the innermost key that the message names; None where it names none."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        return error.problem_mark.line + 1 if error.problem_mark else None
    except yaml.YAMLError:
        return None
    line = None
    for key in named_keys(message):
        step = _child(node, key)
        if step is None:
            break
        line, node = step
    return line


def named_keys(message: str) -> Keys:
    """The path of keys in a message: ``preprocess 2 (clip): unknown key 'x'``, ``… - at `$.limits.timeout```."""
    keys: Keys = []
    if step := re.search(r"\b(preprocess|postprocess) (\d+)\b", message):
        keys = [step[1], int(step[2]) - 1]
    elif within := re.search(r"model\.yaml: ((?:[\w.-]+: )+)", message):
        keys = [*within[1].removesuffix(": ").split(": ")]
    elif section := re.match(r"(inputs|outputs|limits): (?:([\w.-]+): )?", message):
        keys = [key for key in section.groups() if key]
    if unknown := re.search(r"unknown (?:key|step) '([^']+)'", message):
        return [*keys, "step" if "unknown step" in message else unknown[1]]
    if at := re.search(r"at `(?:key in )?\$([^`]*)`", message):
        return [*keys, *_path(at[1])]
    return keys


def _path(text: str) -> Keys:
    """``.limits.timeout`` or ``.preprocess[0]``; ends where an index is not told (``[...]``)."""
    keys: Keys = []
    for name, index in re.findall(r"\.([^.\[]+)|\[([^\]]*)\]", text):
        if not name and not index.isdigit():
            break
        keys.append(name or int(index))
    return keys


def _child(node: yaml.Node | None, key: str | int) -> tuple[int, yaml.Node] | None:
    """The line of a key and the node behind it."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == str(key):
                return name.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key].start_mark.line + 1, node.value[key]
    return None
