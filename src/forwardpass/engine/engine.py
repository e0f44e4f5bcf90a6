"""One loaded version: preprocess, forward pass, postprocess, always in that order.

Pure and synchronous, the same in the caller's process, in a worker and in a job. A batch goes in
as columns, the answers come out as columns; one row's answer does not depend on its neighbours
(padding apart).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, overload

import numpy as np

from forwardpass.backends import Backend, create_backend
from forwardpass.config import ModelConfig, available_cores
from forwardpass.engine import rows as rows_of
from forwardpass.engine.signature import create_signature, describe
from forwardpass.errors import BackendFailed, InvalidModel, nearest
from forwardpass.pipeline import Pipeline, create_pipeline
from forwardpass.pipeline.inputs import InputCheck
from forwardpass.pipeline.user import STEPS_FILE
from forwardpass.registry import ModelFiles, find_model
from forwardpass.types import Array, Columns, ModelInfo, Signature, StageTimes, TensorSpec


class Engine:
    """One loaded version. Build it with ``Engine.open`` or ``load``; ``close`` frees it."""

    def __init__(self, files: ModelFiles, backend: Backend) -> None:
        config = files.config
        self.name = files.name
        self.version = files.version
        self._backend = backend
        self._check, self._preprocess, self._postprocess = _pipelines(files, backend)
        self._outputs = _output_names(config, backend, self._postprocess)
        self.signature: Signature = create_signature(config, backend, self._postprocess.columns, self._outputs)
        self.info: ModelInfo = describe(files, backend, self._preprocess, self._postprocess)
        self.has_own_steps = (files.folder / STEPS_FILE).is_file()
        self._plain = not (self._check or self._preprocess or self._postprocess or config.outputs)

    @classmethod
    def open(cls, files: ModelFiles, threads: int | None = None) -> Engine:
        """Load a version. Raises ``InvalidModel`` saying what is wrong with its folder."""
        if files.config.composed:
            raise InvalidModel(
                f"model {files.name!r} has no artifact of its own: it is made of other models, or lies elsewhere; "
                "serve it together with them (forwardpass serve), and ask it there"
            )
        count = threads or files.config.threads or available_cores()
        return cls(files, create_backend(files.artifact, count, files.config.backend))

    def run(self, columns: Columns) -> tuple[Columns, StageTimes]:
        """Answers for a batch whose columns have the types that ``signature.inputs`` declares.

        Raises ``InvalidRows`` where some rows are wrong, ``InvalidInput`` where the batch cannot
        be run, ``BackendFailed`` where the artifact or a step fails.
        """
        if self._plain:
            return self._run_plain(columns)
        started = perf_counter()
        columns = self._preprocess.run(self._check(columns))
        prepared = {spec.name: _cast(columns[spec.name], spec) for spec in self._backend.inputs}
        forward = perf_counter()
        columns = {**columns, **self._backend.run(prepared)}
        post = perf_counter()
        columns = self._postprocess.run(columns)
        self._check_rows(prepared, columns)
        answer = {name: columns[name] for name in self._outputs}
        return answer, StageTimes(forward - started, post - forward, perf_counter() - post)

    def prepare(self, columns: Columns) -> Columns:
        """What the artifact would be given for a batch: the preprocessing alone. Raises as ``run`` does."""
        columns = self._preprocess.run(self._check(columns))
        return {spec.name: _cast(columns[spec.name], spec) for spec in self._backend.inputs}

    @overload
    def predict(self, rows: Mapping[str, Any]) -> Columns: ...
    @overload
    def predict(self, rows: Sequence[Any] | Array) -> list[Any]: ...
    def predict(self, rows: Mapping[str, Any] | Sequence[Any] | Array) -> Columns | list[Any]:
        """Answers for rows, as columns where columns were given, else as a list with one per row.

        Rows are columns (``{"text": ["a", "b"]}``) or a sequence with one entry per row: a
        dictionary by input name or, where the model has one input, its bare value. An answer is
        the bare value where the model has one output, else a dictionary by output name.
        """
        if isinstance(rows, Mapping):
            return self.run(rows_of.columns_from_mapping(rows, self.signature))[0]
        answer, _ = self.run(rows_of.columns_from_instances(rows, self.signature))
        return rows_of.instances_from_columns(answer, self.signature.batched)

    def close(self) -> None:
        """Free the artifact. The engine cannot be used afterwards."""
        self._backend.close()

    def _run_plain(self, columns: Columns) -> tuple[Columns, StageTimes]:
        started = perf_counter()
        answer = self._backend.run(columns)
        self._check_rows(columns, answer)
        return answer, StageTimes(0.0, perf_counter() - started, 0.0)

    def _check_rows(self, inputs: Columns, outputs: Columns) -> None:
        """Rows must come out as they went in, or answers would reach the wrong caller."""
        if not self.signature.batched:
            return
        rows = len(next(iter(inputs.values())))
        for spec in self._backend.outputs:
            array = outputs[spec.name]
            if array.ndim == 0 or len(array) != rows:
                raise BackendFailed(
                    f"output {spec.name!r} has shape {list(array.shape)} for {rows} rows: the artifact's first axis "
                    "is not rows; set `batching: false` in model.yaml"
                )


def load(path: str | Path, threads: int | None = None) -> Engine:
    """Load an artifact or a model folder into this process.

    ``threads`` is the number of threads it computes with; by default all cores this process may
    use. Raises ``InvalidModel`` or ``NotFound``.
    """
    return Engine.open(find_model(Path(path)), threads)


def _pipelines(files: ModelFiles, backend: Backend) -> tuple[InputCheck, Pipeline, Pipeline]:
    config, folder = files.config, files.folder
    check = InputCheck(create_signature(config, backend, {}, ()).inputs if config.inputs else ())
    given = [spec.tensor for spec in check.inputs] or list(backend.inputs)
    preprocess = create_pipeline(config.preprocess, given, folder, "preprocess")
    for spec in backend.inputs:
        if spec.name not in preprocess.columns:
            hint = nearest(spec.name, preprocess.columns)
            raise InvalidModel(f"{files.name}: the artifact takes {spec.name!r}, which no step writes.{hint}")
    there = {**preprocess.columns, **{spec.name: spec for spec in backend.outputs}}
    return check, preprocess, create_pipeline(config.postprocess, there.values(), folder, "postprocess")


def _output_names(config: ModelConfig, backend: Backend, postprocess: Pipeline) -> tuple[str, ...]:
    names = config.outputs or tuple(dict.fromkeys([s.name for s in backend.outputs] + postprocess.written))
    for name in names:
        if name not in postprocess.columns:
            raise InvalidModel(f"outputs: there is no column {name!r}.{nearest(name, postprocess.columns)}")
    return names


def _cast(array: Array, spec: TensorSpec) -> Array:
    """The column in the artifact's own type, where the step wrote another width of number."""
    wanted = spec.dtype.numpy
    if array.dtype == wanted or wanted.kind == "O":
        return array
    if array.dtype.kind == "O":
        raise BackendFailed(f"column {spec.name!r} holds rows of unlike shape; the artifact takes {spec.dtype} tensors")
    return np.asarray(array, dtype=wanted)
