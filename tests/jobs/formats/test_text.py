"""Text: a row per line."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.jobs.formats.test_lines import blocks_of
from tests.jobs.formats.whole import rows_of

from forwardpass.jobs.formats import BadRow


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text('a" é\n\r\u2028\x85', max_size=40), st.integers(1, 5), st.integers(1, 20))
def test_lines_as_python_reads_them(tmp_path: Path, text: str, cut: int, block: int) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(text.encode())
    with path.open(encoding="utf-8") as file:
        expected = [(line.removesuffix("\n"),) for line in file if line != "\n"]
    with blocks_of(block):
        assert rows_of(path, cut, rows=2) == expected


def test_a_line_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\nt\xe9wo\nthree")
    one, two, three = rows_of(path)
    assert (one, three) == (("one",), ("three",))
    assert two == BadRow("not UTF-8 text (invalid continuation byte at byte 1)", "t�wo")
