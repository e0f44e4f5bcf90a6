"""What ``forwardpass inspect`` shows of a bundle: who signed it, what it needs, and every file in it.

A bundle of which a byte was changed has no portrait: looking at it raises, and the message names the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forwardpass.cli.output import table, title
from forwardpass.cli.portrait import size_in_words
from forwardpass.edge import signing
from forwardpass.edge.bundle import Examination, examine
from forwardpass.errors import InvalidModel

if TYPE_CHECKING:
    from forwardpass.edge.signing import Keys


def bundle_facts(path: Path, key: Path | None) -> dict[str, Any]:
    """All that a bundle says of itself, checked. ``key`` is the public key that must have signed it.

    Raises ``InvalidModel`` where a byte was changed, or where another key signed it.
    """
    found = examine(path, _known(key))
    if key is not None and not found.trusted:
        raise InvalidModel(f"{path.name}: signed by the key {found.key_id}, which is not the one in {key}")
    return {**asdict(found.manifest), "bytes": path.stat().st_size, **_seal(found), "golden_rows": found.golden}


def bundle_portrait(facts: dict[str, Any]) -> str:
    """The facts as lines of text."""
    return "\n".join([title(f"{facts['name']} {facts['version']}  for {facts['target']}"), *_lines(facts)])


def _known(key: Path | None) -> Keys:
    """The public keys in the person's own folder, or the one that is given."""
    folder = signing.default_folder()
    if key is not None:
        return signing.read_public_keys(key)
    return signing.read_public_keys(folder) if folder.is_dir() else {}


def _seal(found: Examination) -> dict[str, Any]:
    return {"key": found.key_id, "signature": "holds", "key_known": found.trusted}


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    known = "known here" if facts["key_known"] else "not known here: give the one it must be by --key FILE.pub"
    runtime = [f"{module} {least}".rstrip() for module, least in sorted(facts["runtime"].items())]
    golden = [f"{count} rows of {model}" for model, count in facts["golden_rows"].items()]
    limits = facts["limits"]
    yield f"  signature  holds, by the key {facts['key']} ({known})"
    yield f"  made by    {facts['created_by']}"
    yield f"  runtime    {', '.join(runtime)}"
    yield f"  golden     {', '.join(golden) or 'none: no model in it runs on the device'}"
    yield f"  limits     loaded in {limits['load_seconds']:g} s, golden rows answered in {limits['golden_seconds']:g} s"
    yield f"  size       {size_in_words(facts['bytes'])}"
    rows = [[size_in_words(item["size"]), item["sha256"][:16], path] for path, item in sorted(facts["files"].items())]
    yield from (f"  {line}" for line in table(["size", "sha256", "file"], rows).splitlines())
