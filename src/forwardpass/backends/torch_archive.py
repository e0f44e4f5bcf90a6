"""What in a ``.pt2`` archive would run code of the archive's own choosing, told before anything is loaded.

``torch.export.load`` trusts its file: it unpickles (weights of odd types, constants, example inputs), evaluates the
expressions of shapes, calls whatever function a node names (``torch.os.system`` too) and writes the names of inputs
into Python source that it executes. This module reads the same records and finds all of that. In flow the archive's
file names and a way to read one, out flows a reason, or none. Knows no torch.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

COMPILED = "data/aotinductor/"
_MODELS = "models/"
_PAYLOADS = re.compile(r"data/(?:weights|constants)/.*_config\.json")
_PICKLED = re.compile(r"data/(?:weights|constants)/.*\.pt")

_OPERATOR = re.compile(
    r"torch\.ops\.(?:aten|prims)\.(?!from_file\b|save\b|load\b|to_file\b)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(?:cond|while_loop|map_impl|scan|associative_scan|wrap_with_set_grad_enabled"
    r"|wrap_with_autocast)"
    r"|torch\.sym_(?:int|float|max|min|ite|not|sum)|torch\._sym_sqrt"
    r"|_operator\.(?:add|sub|mul|floordiv|truediv|mod|neg|pos|pow|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_|lshift|rshift)"
    r"|math\.(?:trunc|ceil|floor|sqrt)"
)
_NAME = re.compile(r"[\w.\[\]:+-]*")  # what no Python source can be made of
_SYMBOL = re.compile(r"(?:s|u|z|zuf|zf)\d+")
_FUNCTIONS = {
    *("FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv"),
    *("LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt"),
    *("RoundToInt", "RoundDecimal", "ToFloat", "Identity", "IsNonOverlappingAndDenseIndicator"),
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow"),
    *("Max", "Min", "Eq", "Ne", "And", "Or", "Not", "floor", "ceiling", "Abs", "oo", "int_oo"),
}
_TEXT = re.compile(r"[\w.+-]*")
_EXPRESSION = (
    *(ast.Expression, ast.Load, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp),
    *(ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.keyword),
)
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
# Texts that only people read, that are only ever quoted, or that are never run where guards are switched off.
_UNUSED = {"metadata", "as_string", "as_strings", "guards_code", "verifiers", "torch_version", "opset_version"}


def code_in_archive(names: Collection[str], read: Callable[[str], bytes]) -> str:
    """Why loading this archive would run its own code, to follow the file's name; empty where it would not.

    ``names`` are its records without the root folder, ``read`` gives the bytes of one. Raises ``ValueError``
    where a record is no JSON. Example inputs are pickles in every archive: load them with ``weights_only``.
    """
    for name in names:
        if name.startswith(COMPILED) or name.endswith((".so", ".dll", ".dylib")):
            return f"holds compiled code ({name})"
        if _PICKLED.fullmatch(name):
            return f"holds a pickle ({name})"
    for name in names:
        if _PAYLOADS.fullmatch(name):
            why = _pickles(json.loads(read(name)))
        elif name.startswith(_MODELS):
            why = next(_problems(json.loads(read(name)), ""), "")
        else:
            continue
        if why:
            return why
    return ""


def _pickles(payloads: Any) -> str:
    for name, item in payloads["config"].items():
        if item.get("use_pickle") or not str(item.get("path_name")).startswith(("weight_", "tensor_")):
            return f"keeps {name!r} as a pickle"
    return ""


def _problems(value: Any, key: str) -> Iterator[str]:
    """All that is suspicious under one value of a program's JSON; ``key`` is the name it is kept under."""
    if key in _UNUSED:
        return
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _text_problem(name, "name")
            yield from _problems(item, "operator" if name == "target" and "inputs" in value else name)
    elif isinstance(value, list):
        for item in value:
            yield from _problems(item, key)
    elif isinstance(value, str):
        yield from _text_problem(value, key)


def _text_problem(text: str, key: str) -> Iterator[str]:
    if key == "operator":
        if not _OPERATOR.fullmatch(text):
            yield f"calls {text[:60]!r}, which is none of PyTorch's own tensor operators"
    elif key == "expr_str":
        if not _is_expression(text):
            yield f"holds {text[:60]!r} where the size of an axis belongs"
    elif key in ("in_spec", "out_spec"):
        if text and not _is_plain_tree(json.loads(text)):
            yield f"holds in its {key} other things than tuples, lists and dictionaries"
    elif not _NAME.fullmatch(text):
        yield f"holds {text[:60]!r} where a name belongs"


def _is_expression(text: str) -> bool:
    """Whether a text is arithmetic on sizes alone: numbers, symbols such as ``s17``, known functions."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError):
        return False
    return all(_is_arithmetic(node) for node in nodes)


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return bool(_SYMBOL.fullmatch(node.id)) or node.id in _FUNCTIONS
    if isinstance(node, ast.Constant):  # the text is a symbol's name, or a number's digits
        return isinstance(node.value, bool | int | float) or bool(_TEXT.fullmatch(str(node.value)))
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name)
    return isinstance(node, _EXPRESSION)


def _is_plain_tree(spec: Any) -> bool:
    """Whether a serialised tree (``[protocol, {type, context, children_spec}]``) has plain containers only."""
    if isinstance(spec, list):
        return all(_is_plain_tree(item) for item in spec)
    if not isinstance(spec, dict):
        return isinstance(spec, int)
    context = spec.get("context")
    parsed = json.loads(context) if isinstance(context, str) else context
    keys = parsed is None or (isinstance(parsed, list) and all(isinstance(key, str | int) for key in parsed))
    return spec.get("type") in _CONTAINERS and keys and _is_plain_tree(spec.get("children_spec", []))
