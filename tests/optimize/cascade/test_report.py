"""The reports of one calibration: complete, self-contained, and honest about what was met."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from forwardpass.optimize.bootstrap import Interval
from forwardpass.optimize.cascade import plot, report
from forwardpass.optimize.cascade.results import Aim, Calibration, Chosen, Latency, Measured, Point

SVG = "{http://www.w3.org/2000/svg}"


def around(value: float, half: float = 0.01) -> Interval:
    return Interval(value, value - half, value + half)


def latency(median: float) -> Latency:
    return Latency(*(around(median * factor, median / 10) for factor in (1, 3, 1.2)))


CURVE = tuple(Point(0.1 * n, n / 4, around(0.93 + 0.01 * n)) for n in range(5))
MEASURED = Measured(
    rows=2250, small_accuracy=around(0.93), large_accuracy=around(0.97), accuracy=around(0.965),
    drop=Interval(0.005, 0.002, 0.008), gain=around(0.035), share=around(0.18), disagreement=around(0.06),
    error_before=around(0.04), error_after=around(0.011), timed=900, small_latency=latency(1e-4),
    large_latency=latency(2e-3), latency=latency(4e-4), curve=CURVE,
)  # fmt: skip
FOUND = Calibration(
    "tiny", "<large>", Aim(escalated=0.2), "label", "digit", (), "probabilities", 1.83, 0.912,
    Chosen(2250, 0.176, 0.967), MEASURED,
    3, "a" * 64, 0.002, around(0.36), {"processor": "a|processor", "cores": 2}, {"numpy": "2"},
)  # fmt: skip


def test_the_picture_is_drawn_within_its_frame() -> None:
    drawing = ElementTree.fromstring(plot.svg(FOUND))
    [dot] = drawing.iter(f"{SVG}circle")
    assert plot.LEFT < float(dot.get("cx", "")) < plot.WIDTH - plot.RIGHT
    assert plot.TOP < float(dot.get("cy", "")) < plot.HEIGHT - plot.BOTTOM
    places = [part.get("d", "") for part in drawing.iter(f"{SVG}path") if part.get("class") in ("line", "band")]
    assert [path.count("L") for path in places] == [9, 4]
    for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", " ".join(places)):
        assert plot.LEFT <= float(x) <= plot.WIDTH - plot.RIGHT
        assert plot.TOP <= float(y) <= plot.HEIGHT - plot.BOTTOM
    texts = [text.text for text in drawing.iter(f"{SVG}text")]
    assert "<large> alone" in texts
    assert "at most 20 %" in texts


@pytest.mark.parametrize("aim", [Aim(accuracy=0.99), Aim(below=0.003)])
def test_an_accuracy_that_was_asked_for_is_a_line(aim: Aim) -> None:
    drawing = ElementTree.fromstring(plot.svg(replace(FOUND, aim=aim)))
    assert aim.words("<large>") in [text.text for text in drawing.iter(f"{SVG}text")]


def test_all_reports_say_the_same(tmp_path: Path) -> None:
    page, text, picture, data = report.write(FOUND, tmp_path / "new")
    assert json.loads(data.read_text())["measured"]["accuracy"] == {"value": 0.965, "low": 0.955, "high": 0.975}
    assert ElementTree.fromstring(picture.read_text()).tag == f"{SVG}svg"
    for said in (page.read_text(), text.read_text()):
        assert "96.50 % [95.50 to 97.50]" in said
        assert "18.0 % [17.0 to 19.0]" in said
        assert "400 µs [360 µs to 440 µs]" in said
        assert "0.36 [0.35 to 0.37]" in said
        assert "4.00 % [3.00 to 5.00]" in said
        assert "1.10 % [0.10 to 2.10]" in said
    assert "(report.svg)" in text.read_text()


def test_the_page_needs_nothing_else_and_believes_no_name() -> None:
    page = report.html(FOUND)
    assert not re.search(r"<script|<link|@import|url\(|src=|href=", page)
    assert "&lt;large&gt;" in page
    assert "<large>" not in page


def test_without_a_price_there_is_no_line_for_money() -> None:
    assert [row[0] for row in report.table(FOUND)].count("cost of 1,000 rows") == 1
    assert [row[0] for row in report.table(replace(FOUND, price=0.0))].count("cost of 1,000 rows") == 0


@pytest.mark.parametrize(
    ("aim", "words"),
    [
        (Aim(escalated=0.2), "met, by the whole interval"),
        (Aim(escalated=0.185), "met, though the interval reaches beyond it"),
        (Aim(escalated=0.17), "missed on these rows"),
        (Aim(accuracy=0.95), "met, by the whole interval"),
        (Aim(accuracy=0.96), "met, though the interval reaches beyond it"),
        (Aim(accuracy=0.97), "missed on these rows"),
        (Aim(below=0.01), "met, by the whole interval"),
        (Aim(below=0.006), "met, though the interval reaches beyond it"),
        (Aim(below=0.003), "missed on these rows"),
    ],
)
def test_what_was_missed_is_said(aim: Aim, words: str) -> None:
    found = replace(FOUND, aim=aim)
    assert report.met(found) == words
    assert report.verdict(found).endswith(f"{words}.")


def test_what_is_no_number_is_not_made_one() -> None:
    nothing = replace(FOUND, measured=replace(MEASURED, accuracy=Interval(None, None, None)), aim=Aim(accuracy=0.9))
    assert report.met(nothing) == "nobody can tell"
    ElementTree.fromstring(plot.svg(nothing))
