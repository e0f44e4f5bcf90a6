"""The picture: well-formed, within its frame, complete, and no more than text."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from forwardpass.loadtest import Histogram, Result
from forwardpass.loadtest.plot import html, svg

SVG = "{http://www.w3.org/2000/svg}"


def result(rate: float | None, *latencies: float) -> Result:
    return Result("v1", 1.0, 2, rate, ok_in_time=len(latencies), latency=Histogram(latencies))


RUNS = [
    ("one <&> two", result(None, 0.001, 0.002, 0.003)),
    ("quick", result(None, *[0.0005] * 40)),
    ("open", result(50.0, 0.01, 0.9)),
    ("dead", result(10.0)),
]


def points(line: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in line.attrib["points"].split())
    return [(float(x), float(y)) for x, y in pairs]


def test_every_run_is_drawn_inside_the_picture() -> None:
    root = ElementTree.fromstring(svg("a title", RUNS))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    lines = [points(line) for line in root.iter(f"{SVG}polyline")]
    assert all(0 <= x <= width and 0 <= y <= height for line in lines for x, y in line)
    assert len(list(root.iter(f"{SVG}circle"))) == 3
    texts = [item.text for item in root.iter(f"{SVG}text")]
    assert {"a title", "one <&> two", "quick", "open", "dead: no good answer"} <= set(texts)
    assert {"99.9 %", "share of answers", "good answers per second"} <= set(texts)


def test_slower_is_higher_and_more_is_further_right() -> None:
    root = ElementTree.fromstring(svg("t", RUNS))
    slow, quick, _ = ((float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter(f"{SVG}circle"))
    assert quick[0] > slow[0]
    assert quick[1] > slow[1]  # y grows downwards
    curve = points(next(root.iter(f"{SVG}polyline")))
    assert curve == sorted(curve, key=lambda point: (point[0], -point[1]))


def test_the_page_holds_everything_itself() -> None:
    page = html("<title>", RUNS)
    assert "<script" not in page
    assert re.findall(r"(?:href|src|url)\b", page) == []
    assert "<title>&lt;title&gt;</title>" in page
    assert "prefers-color-scheme:dark" in page


def test_nothing_measured_is_still_a_picture() -> None:
    ElementTree.fromstring(svg("t", []))
    ElementTree.fromstring(svg("t", RUNS[3:]))


def test_a_curve_goes_no_further_than_its_answers_reach() -> None:
    few, many = result(None, 0.001, 0.002), result(None, *[0.001] * 20_000, 0.002)
    root = ElementTree.fromstring(svg("t", [("few", few), ("many", many)]))
    short, long = (points(line)[-1][0] for line in list(root.iter(f"{SVG}polyline"))[:2])
    assert short < long - 100
