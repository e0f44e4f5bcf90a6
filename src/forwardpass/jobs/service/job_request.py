"""A job as a caller of the server asks for it, checked: what may be said, and the places it may touch.

Inputs and outputs lie under one folder, links followed, or under prefixes of object stores. Knows no
HTTP and runs nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forwardpass.config import decode
from forwardpass.errors import BackendFailed, InvalidInput, NotFound
from forwardpass.jobs.job import Layout
from forwardpass.jobs.storage import create_storage

_SHARE = re.compile(r"\d+|\d+(\.\d+)?%")
_REMOTE = "://"


@dataclass(frozen=True)
class JobRequest:
    """What was asked for, in the words of ``forwardpass run``. Names are those of the places: relative, or URLs."""

    model: str
    input: str | tuple[str, ...]
    output: str
    version: str | int | None = None
    where: str = ""
    keep: str | tuple[str, ...] | None = None
    map: dict[str, str | tuple[str, ...]] = field(default_factory=dict)
    format: str | None = None
    max_rejected: str | int | None = None
    batch_rows: int | None = None
    part_rows: int | None = None
    workers: int | None = None
    resume: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,) if isinstance(self.input, str) else self.input

    def options(self) -> list[str]:
        """The flags of ``forwardpass run``."""
        flags = {
            "where": self.where or None,
            "keep": None if self.keep is None else ",".join(_names(self.keep)),
            "format": self.format,
            "max-rejected": self.max_rejected,
            "batch-rows": self.batch_rows,
            "part-rows": self.part_rows,
            "workers": self.workers,
        }
        maps = [f"--map={name}={','.join(_names(columns))}" for name, columns in self.map.items()]
        return [*(f"--{name}={value}" for name, value in flags.items() if value is not None), *maps]


class Places:
    """Where jobs may read and write: under ``folder``, and under ``prefixes`` such as ``s3://bucket/some``."""

    def __init__(self, folder: Path, prefixes: Sequence[str] = ()) -> None:
        self.folder = folder.resolve()
        self._prefixes = [prefix.rstrip("/") for prefix in prefixes]

    def check(self, body: Any) -> JobRequest:
        """The request in a body. Raises ``InvalidInput`` for all that can be found wrong without the model."""
        asked = decode(JobRequest, body, "job", InvalidInput)
        _check_words(asked)
        if not asked.inputs:
            raise InvalidInput("job: `input` names nothing; give files, folders or globs")
        inputs = tuple(self._input(name) for name in asked.inputs)
        output = self._output(asked.output, asked.resume)
        return JobRequest(**{**vars(asked), "input": inputs, "output": output})

    def _input(self, name: str) -> str:
        if _REMOTE in name:
            return self._url("input", name)
        relative = self._relative("input", name)
        try:
            entries = create_storage(relative).list(str(self.folder / relative))
        except (NotFound, InvalidInput, OSError):
            raise InvalidInput(f"input {name!r}: there is no such file in the folder of jobs, or none in it") from None
        for entry in entries:
            self._require_inside("input", name, entry.name)
        return relative

    def _output(self, name: str, resume: bool) -> str:
        output = self._url("output", name) if _REMOTE in name else self._relative("output", name)
        layout = Layout(output)
        if _REMOTE not in name:
            for touched in (layout.output, layout.own):
                self._require_inside("output", name, self.folder / touched)
            there = any(os.path.lexists(self.folder / touched) for touched in (layout.output, layout.own))
        elif resume:
            there = False
        else:
            storage = create_storage(output)
            try:
                there = any(storage.find(touched) for touched in (layout.output, layout.plan, layout.manifest))
            except OSError as error:
                raise BackendFailed(f"output {name!r}: {error}") from None
        if there and not resume:
            raise InvalidInput(
                f"output {name!r}: is there already; choose another, remove it and {layout.own}, or go on with it: "
                '"resume": true'
            )
        return output

    def _url(self, what: str, url: str) -> str:
        path = url.partition(_REMOTE)[2]
        under = any(url == prefix or url.startswith(f"{prefix}/") for prefix in self._prefixes)
        if not under or any(part in ("", ".", "..") for part in path.rstrip("/").split("/")):
            allowed = f" under {' or '.join(self._prefixes)}" if self._prefixes else "; only paths in its folder"
            raise InvalidInput(f"{what} {url!r}: this server's jobs may not use it{allowed}")
        return url

    def _relative(self, what: str, name: str) -> str:
        """The name within the folder."""
        path = Path(name)
        if path.is_absolute() and path.is_relative_to(self.folder):
            path = path.relative_to(self.folder)
        if path.is_absolute() or ".." in path.parts:
            raise self._outside(what, name)
        if not path.parts or any(part.startswith(".") for part in path.parts):
            raise InvalidInput(
                f"{what} {name!r}: give the name of something in the folder of jobs; none begins with '.'"
            )
        return f"{path}/" if name.endswith("/") and what == "output" else str(path)

    def _require_inside(self, what: str, name: str, path: str | Path) -> None:
        if not Path(os.path.realpath(path)).is_relative_to(self.folder):
            raise self._outside(what, name)

    def _outside(self, what: str, name: str) -> InvalidInput:
        return InvalidInput(
            f"{what} {name!r}: lies outside the folder that this server's jobs may use; name it relative to that folder"
        )


def _check_words(asked: JobRequest) -> None:
    texts = [asked.model, asked.output, asked.where, asked.format or "", *asked.inputs, *asked.map]
    names = [*_names(asked.keep or ()), *(name for columns in asked.map.values() for name in _names(columns))]
    if any("\0" in text for text in (*texts, *names)):
        raise InvalidInput("job: a text holds a zero byte")
    for name in names:
        if "," in name or not name.strip():
            raise InvalidInput(
                f"job: {name!r} cannot be the name of a column here; give a list of names, without commas"
            )
    for name in asked.map:
        if "=" in name:
            raise InvalidInput(f"job: map: {name!r} cannot be the name of an input")
    if asked.max_rejected is not None and not _SHARE.fullmatch(str(asked.max_rejected)):
        raise InvalidInput(
            f"job: `max_rejected` is a number of rows or a percentage such as 1%, not {asked.max_rejected!r}"
        )
    for key in ("batch_rows", "part_rows", "workers"):
        value = getattr(asked, key)
        if value is not None and value < 1:
            raise InvalidInput(f"job: `{key}` must be at least 1, got {value}")


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
