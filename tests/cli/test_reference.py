"""``docs/cli.md`` must be what the program's help says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_fresh() -> None:
    spec = importlib.util.spec_from_file_location("generate_cli", DOCS / "generate_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.cli_reference()
    assert "## `forwardpass serve`" in page
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == page, "run `make docs`"
