"""Which columns of a data set go into which input of a model, and which are kept beside its outputs.

By name, or as the user says; what cannot work is said before any row is read. Knows no files and
runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from forwardpass.engine.rows import left_out
from forwardpass.errors import InvalidInput, InvalidRows, nearest
from forwardpass.jobs.values import Column, arrow_field, input_column, require_type, side_by_side, typed_array
from forwardpass.types import Array, Columns, DType, InputSpec, Signature

EVERYTHING = "*"


class ColumnMap:
    """``inputs`` gives the data set's columns of each input, none where it is left out; ``kept`` is a schema."""

    def __init__(
        self,
        schema: pa.Schema,
        signature: Signature,
        given: Mapping[str, Sequence[str]],
        keep: Sequence[str] | None,
        typed: bool,
    ) -> None:
        """Raises ``InvalidInput`` for names that are not there, types that do not suit, and names taken twice."""
        self._signature = signature
        self._typed = typed
        self._schema = schema
        self._require_names(given, (spec.name for spec in signature.inputs), "--map", "input")
        for columns in given.values():
            self._require_names(columns, schema.names, "--map", "column")
        self.inputs = {spec: self._columns_of(spec, given.get(spec.name)) for spec in signature.inputs}
        for spec, names in self.inputs.items():
            for name in names:
                require_type(name, schema.field(name).type, spec, typed)
        self.kept = self._kept(keep)
        self.columns = list(dict.fromkeys([*chain.from_iterable(self.inputs.values()), *self.kept.names]))

    @property
    def outputs(self) -> pa.Schema:
        """What is written: the kept columns, then the outputs."""
        return pa.schema(
            [*self.kept, *(arrow_field(spec, self._signature.batched) for spec in self._signature.outputs)]
        )

    @property
    def left_out(self) -> list[str]:
        """Inputs that no column is for; they are not required."""
        return [spec.name for spec, names in self.inputs.items() if not names]

    def model_columns(self, columns: Mapping[str, Column], rows: int) -> Columns:
        """A batch for the engine. Raises ``InvalidRows`` for all rows that cannot be taken."""
        wrong: dict[int, str] = {}
        batch: Columns = {}
        for spec, names in self.inputs.items():
            try:
                batch[spec.name] = self._input(spec, [columns[name] for name in names], rows)
            except InvalidRows as error:
                wrong.update({row: reason for row, reason in error.rows.items() if row not in wrong})
        if wrong:
            raise InvalidRows(wrong)
        return batch

    def instances(self, columns: Mapping[str, Column], rows: int) -> list[dict[str, Any]]:
        """Each row by itself, for a model whose rows cannot run together."""
        values = {
            spec.name: column if isinstance(column := columns[names[0]], list) else column.to_pylist()
            for spec, names in self.inputs.items()
            if names
        }
        return [{name: items[row] for name, items in values.items()} for row in range(rows)]

    def kept_columns(self, columns: Mapping[str, Column]) -> tuple[dict[str, pa.Array], dict[int, str]]:
        """The kept columns in their types, and why some rows have a value that does not fit."""
        kept: dict[str, pa.Array] = {}
        wrong: dict[int, str] = {}
        for field in self.kept:
            kept[field.name], errors = typed_array(columns[field.name], field)
            wrong.update(errors)
        return kept, wrong

    def _input(self, spec: InputSpec, columns: Sequence[Column], rows: int) -> Array:
        if not columns:
            return left_out(spec, rows)
        if len(columns) == 1:
            return input_column(columns[0], spec, self._typed)
        return side_by_side(columns, spec, self._typed)

    def _columns_of(self, spec: InputSpec, given: Sequence[str] | None) -> tuple[str, ...]:
        if given is not None:
            return tuple(given)
        if spec.name in self._schema.names:
            return (spec.name,)
        if not spec.required:
            return ()
        if len(self._signature.inputs) == 1:
            return self._only_candidates(spec)
        hint = nearest(spec.name, self._schema.names)
        raise InvalidInput(f"no column is named like the input {spec.name!r}.{hint} Name it: --map {spec.name}=COLUMN")

    def _only_candidates(self, spec: InputSpec) -> tuple[str, ...]:
        """The model's one input has another name: the columns that can be nothing else."""
        fitting = [field for field in self._schema if _suits(field.type, spec, self._typed)]
        width = spec.tensor.shape[1] if len(spec.tensor.shape) == 2 else 1
        for several in (True, False):  # one column of lists, or a column for each element
            names = tuple(field.name for field in fitting if _is_list(field.type) == several)
            if len(names) == (1 if several else width):
                return names
        elements = f", or its {width or 'own'} elements: --map {spec.name}=A,B,…" if width != 1 else ""
        form = f"--map {spec.name}=COLUMN{elements}"
        raise InvalidInput(
            f"no column is named like the input {spec.name!r}, and {len(fitting)} columns could be it. Name it: {form}"
        )

    def _kept(self, keep: Sequence[str] | None) -> pa.Schema:
        taken = set(chain.from_iterable(self.inputs.values()))
        if keep is None:
            names = [field.name for field in self._schema if field.name not in taken and not _is_bytes(field.type)]
        else:
            names = [item for name in keep for item in (self._schema.names if name == EVERYTHING else [name])]
        self._require_names(names, self._schema.names, "--keep", "column")
        outputs = {spec.name for spec in self._signature.outputs}
        if both := [name for name in names if name in outputs]:
            raise InvalidInput(
                f"column {both[0]!r} cannot be kept beside the output of the same name; say which to keep (--keep)"
            )
        return pa.schema([self._schema.field(name) for name in dict.fromkeys(names)])

    def _require_names(self, names: Iterable[str], known: Iterable[str], flag: str, what: str) -> None:
        there = list(known)
        for name in names:
            if name not in there:
                raise InvalidInput(f"{flag}: there is no {what} {name!r}.{nearest(name, there)}")


def _suits(kind: pa.DataType, spec: InputSpec, typed: bool) -> bool:
    try:
        require_type("", kind, spec, typed)
    except InvalidInput:
        return False
    return typed or spec.tensor.dtype is DType.BYTES or not pa.types.is_string(kind)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
