"""The three reports of one search: complete, self-contained, and no more than text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from forwardpass.optimize import plot, report
from forwardpass.optimize.bootstrap import Interval
from forwardpass.optimize.results import OBJECTIVES, Entry, Figures, Gain, Quality, WorstRow
from forwardpass.optimize.search import Search

SVG = "{http://www.w3.org/2000/svg}"
WORST = WorstRow(12, "cat", "cat", "dog", 1.0, "text: <b>a|b</b>")


def candidate(name: str, drop: Interval, gain: float, passed: bool, reason: str) -> Entry:
    figures = Figures(0.4, 0.002 / gain, 0.004, 5000 * gain, 32, 2e-4, 0, 90_000_000, 4_000_000)
    gained: dict[str, Gain] = {objective: Gain(gain, gain * 0.9, gain * 1.1) for objective in OBJECTIVES}
    return Entry(name, f"<{name}>", passed, reason, "", Quality(0.97, drop, 0.99, (WORST,)), figures, gained, 3, 20.0)


ENTRIES = (
    candidate("quick", Interval(0.001, -0.001, 0.003), 3.4, True, "3.40 times better"),
    candidate("wrong", Interval(0.3, 0.2, 0.4), 5.0, False, "accuracy drops by 30 points"),
    candidate("broken", Interval(None, None, None), 2.0, False, "not a number"),
    candidate("slow", Interval(0.0, 0.0, 0.0), 0.01, False, "worse than the parent"),
    Entry("lost", "<lost>", False, "failed: its process was killed by SIGSEGV", "its process was killed by SIGSEGV"),
)
SEARCH = Search(
    "reviews", "3", "accuracy", "label", "throughput", 0.005, 4211, 256, 3, "a" * 64, Interval(0.971, 0.966, 0.976),
    Figures(0.4, 0.002, 0.004, 5000, 32, 2e-4, 0, 90_000_000, 4_000_000), ENTRIES, "quick", "models/reviews/4", 312.0,
    {"processor": "a processor", "cores": 2}, {"numpy": "2"},
)  # fmt: skip


def test_every_measured_candidate_is_drawn_inside_the_picture() -> None:
    root = ElementTree.fromstring(plot.svg(SEARCH))
    dots = [dot for dot in root.iter(f"{SVG}circle") if "ring" not in dot.attrib.get("class", "")]
    assert len(dots) == 4
    assert len(list(root.iter(f"{SVG}circle"))) == 5, "a ring around the winner"
    for dot in dots:
        assert plot.LEFT <= float(dot.attrib["cx"]) <= plot.WIDTH - plot.RIGHT
        assert plot.TOP <= float(dot.attrib["cy"]) <= plot.HEIGHT - plot.BOTTOM
    assert [group.attrib["class"] for group in root.iter(f"{SVG}g")] == ["good", "lost", "lost", "slow"]
    numbers = [item.text for item in root.iter(f"{SVG}text") if item.attrib["class"] == "num"]
    assert numbers == ["1", "2", "3", "4"]


def test_faster_is_further_right_and_worse_is_lower() -> None:
    root = ElementTree.fromstring(plot.svg(SEARCH))
    dots = [dot for dot in root.iter(f"{SVG}circle") if "ring" not in dot.attrib.get("class", "")]
    quick, wrong, _, slow = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in dots]
    assert slow[0] < quick[0] < wrong[0]
    assert slow[1] < quick[1] < wrong[1]  # y grows downwards


def test_a_search_with_nothing_measured_has_a_picture() -> None:
    root = ElementTree.fromstring(plot.svg(replace(SEARCH, entries=ENTRIES[-1:], winner="", out="")))
    assert not list(root.iter(f"{SVG}circle"))


def test_numbers_that_would_cover_each_other_are_apart() -> None:
    root = ElementTree.fromstring(plot.svg(replace(SEARCH, entries=ENTRIES[:1] * 4)))
    heights = [float(item.attrib["y"]) for item in root.iter(f"{SVG}text") if item.attrib["class"] == "num"]
    assert len(set(heights)) == 4


def test_the_page_needs_nothing_but_itself_and_runs_nothing() -> None:
    page = report.html(SEARCH)
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)=|url\(|@import|https?://(?!www\.w3\.org/2000/svg")', page)
    assert "<b>" not in page, "a row's text is text"
    assert "&lt;lost&gt;" in page


def test_all_three_have_every_candidate_and_its_reason(tmp_path: Path) -> None:
    files = [tmp_path / f"report.{end}" for end in ("html", "md", "json")]
    report.write(SEARCH, files)
    page, text, data = (file.read_text() for file in files)
    for entry in ENTRIES:
        reason = entry.reason.removeprefix("failed: ")
        assert reason in page
        assert reason in text
    assert [entry["name"] for entry in json.loads(data)["entries"]] == [entry.name for entry in ENTRIES]
    assert json.loads(data)["entries"][2]["quality"]["drop"] == {"value": None, "low": None, "high": None}
    assert r"a\|b" in text


def test_the_verdict_says_what_won_or_that_nothing_did() -> None:
    assert "<quick> is the best: 3.40 times better. It is at models/reviews/4" in report.verdict(SEARCH)
    none = replace(SEARCH, winner="", out="")
    assert report.verdict(none).startswith("The parent is the best: of 5 candidates 4 could be measured, and none")
