"""Writing a model folder whole or not at all: under a hidden name first, renamed when everything is in it.

Knows no conversion; what lies in the folder is the caller's.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from forwardpass.config import MODEL_FILE
from forwardpass.engine.rows import instances_from_columns
from forwardpass.errors import InvalidModel
from forwardpass.types import Columns


def require_free(folder: Path) -> None:
    """Raise ``InvalidModel`` where something lies at that place already, other than an empty folder."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InvalidModel(f"{folder}: is there already; give a folder that is not, or an empty one")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, beside the wanted one; it becomes that when the block ends well, else it is removed."""
    require_free(folder)
    partial = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield partial
        partial.chmod(0o755)  # temporary folders are the owner's alone
        partial.rename(folder)
    except OSError as reason:
        raise InvalidModel(f"{folder}: cannot be written: {reason.strerror or reason}") from None
    finally:
        if partial is not None and partial.exists():
            shutil.rmtree(partial, ignore_errors=True)


def write_texts(folder: Path, description: str, tags: dict[str, str], sample: Columns, batched: bool) -> None:
    """``model.yaml``, and ``sample.json`` with the first row (or the whole request, where rows are not batched)."""
    lines: dict[str, Any] = {"description": description, "tags": tags}
    (folder / MODEL_FILE).write_text(yaml.safe_dump(lines, sort_keys=False, allow_unicode=True), encoding="utf-8")
    one = {name: column[:1] for name, column in sample.items()} if batched else sample
    body = {"instances": instances_from_columns(one, batched)}
    (folder / "sample.json").write_bytes(msgspec.json.encode(body) + b"\n")
