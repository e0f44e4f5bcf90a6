"""The page in a real browser: every example model answers through its form, and nothing complains."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.server.process import Server

from forwardpass.errors import NotFound
from forwardpass.server.http import page as files

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, served: Server) -> Iterator[Page]:
    """The page, open; fails the test where the browser's console shows an error of ours."""
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(10_000)
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(served.url)
    yield page
    page.close()
    assert [text for text in complaints if "status of 400" not in text] == []  # the browser's own note


def choose(page: Page, model: str) -> None:
    page.get_by_role("navigation", name="Models").get_by_role("link", name=re.compile(rf"\b{model}\b")).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(model)


def predict(page: Page) -> None:
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".answer .curl, .error:visible").first).to_be_visible()


def wait_for_sample(page: Page, field: str) -> None:
    page.wait_for_function("([id]) => document.querySelector(id).value.length > 0", arg=[field])


def draw_a_seven(page: Page) -> None:
    box = page.locator("canvas").bounding_box()
    assert box is not None
    x, y, side = box["x"], box["y"], box["width"]
    page.mouse.move(x + side * 0.35, y + side * 0.25)
    page.mouse.down()
    for across, down in ((0.65, 0.25), (0.62, 0.35), (0.52, 0.5), (0.5, 0.6), (0.45, 0.8)):
        page.mouse.move(x + side * across, y + side * down, steps=3)
    page.mouse.up()


def run_curl(page: Page) -> str:
    """The answer to the line that the page shows, pasted into a shell."""
    line = page.locator(".curl pre").inner_text()
    assert shlex.split(line)[0] == "curl"
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    done = subprocess.run(["sh", "-c", line.replace("curl", "curl -sS")], capture_output=True, text=True, check=True)
    return done.stdout


@needs_browser
def test_the_models_are_listed_with_their_state(page: Page) -> None:
    links = page.locator("#models a")
    expect(links.filter(has_text="digits").get_by_role("img", name="ready")).to_be_visible()
    expect(links.filter(has_text="versions 2")).to_be_visible()
    expect(page.locator("#summary")).to_contain_text("models")
    choose(page, "broken")
    expect(page.locator("article .error")).to_contain_text("model.onnx")
    expect(page.get_by_role("button", name="Predict")).to_have_count(0)


@needs_browser
def test_a_digit_is_drawn_with_the_mouse(page: Page) -> None:
    choose(page, "digits")
    draw_a_seven(page)  # and is read without another click
    expect(page.locator(".headline b")).to_have_text("7")
    expect(page.locator(".bars .name")).to_have_count(3)
    expect(page.locator(".times")).to_contain_text("forward")
    assert json.loads(run_curl(page))["predictions"][0]["label"] == "7"


@needs_browser
def test_a_picture_is_chosen_pasted_and_dropped(page: Page, served: Server, tmp_path: Path) -> None:
    choose(page, "digits")
    predict(page)
    with urllib.request.urlopen(f"{served.url}/models/digits/sample") as answer:
        (tmp_path / "five.png").write_bytes(answer.read())
    label = page.locator(".headline b").inner_text()
    assert json.loads(run_curl(page))["predictions"][0]["label"] == label
    page.get_by_role("button", name="Clear").click()
    page.locator("input[type=file]").set_input_files(tmp_path / "five.png")
    expect(page.locator(".curl pre")).to_contain_text("--data-binary @five.png")
    expect(page.locator(".headline b")).to_have_text(label)
    for event, transfer in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.get_by_role("button", name="Clear").click()
        page.evaluate(
            """async ([event, transfer]) => {
                const blob = await (await fetch("models/digits/sample")).blob();
                const data = new DataTransfer();
                data.items.add(new File([blob], `${event}.png`, { type: "image/png" }));
                const kinds = { drop: DragEvent, paste: ClipboardEvent };
                document.querySelector("canvas").dispatchEvent(
                    new kinds[event](event, { bubbles: true, cancelable: true, [transfer]: data }));
            }""",
            [event, transfer],
        )
        expect(page.locator(".curl pre")).to_contain_text(f"@{event}.png")
        expect(page.locator(".headline b")).to_have_text(label)


@needs_browser
def test_an_empty_sheet_is_not_sent(page: Page) -> None:
    choose(page, "digits")
    expect(page.locator(".empty")).to_be_hidden()  # the sample is there
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("draw image first")
    draw_a_seven(page)
    expect(page.locator(".headline b")).to_have_text("7")
    expect(page.get_by_role("alert")).to_be_hidden()


@needs_browser
def test_a_text_is_answered_from_the_keyboard(page: Page) -> None:
    choose(page, "task-priority")
    page.get_by_label("text").fill("Don't forget: server is down, fix it now")
    page.get_by_label("text").press("Control+Enter")
    expect(page.locator(".headline b")).to_have_text(re.compile("^(High|Medium|Low)$"))
    expect(page.locator(".bars .name")).to_have_count(3)
    label = page.locator(".headline b").inner_text()
    assert json.loads(run_curl(page))["predictions"][0]["label"] == label


@needs_browser
def test_numbers_and_categories(page: Page) -> None:
    choose(page, "fraud")
    page.get_by_label("amount").fill("20")
    page.get_by_label("hour").fill("12")
    page.get_by_label("channel").select_option("online")
    page.get_by_label("distance from home").fill("")
    predict(page)
    expect(page.locator(".headline b")).to_have_text(re.compile("^(approve|review|block)$"))
    expect(page.locator(".headline span")).to_contain_text("fraud probability")
    said = json.loads(run_curl(page))["predictions"][0]
    assert said["decision"] == page.locator(".headline b").inner_text()
    page.get_by_label("amount").fill("-5")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".answer .error")).to_contain_text("below the minimum 0")
    expect(page.locator(".answer .error")).to_contain_text("400")


@needs_browser
def test_a_bare_model_takes_json(page: Page) -> None:
    choose(page, "breast-cancer")
    wait_for_sample(page, "textarea")
    predict(page)
    expect(page.locator(".headline b")).to_have_text(re.compile("^[01]$"))
    expect(page.locator(".bars .name")).to_have_text(["class 0", "class 1"])
    page.get_by_label("features").fill("[1, 2")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("features is not valid JSON")


@needs_browser
def test_every_kind_of_tensor_has_a_form_that_works(page: Page) -> None:
    for model in ("affine", "two-inputs", "bytes", "half", "bool", "lookup", "unbatched"):
        choose(page, model)
        predict(page)
        expect(page.locator(".answer .error")).to_have_count(0)
        assert json.loads(run_curl(page))["predictions"], model


@needs_browser
def test_it_fits_a_telephone(browser: Browser, served: Server) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 800})
    for model in ("digits", "task-priority", "fraud", "breast-cancer", "broken"):
        page.goto(f"{served.url}/#{model}")
        expect(page.get_by_role("heading", level=1)).to_have_text(model)
        expect(page.locator("#models [aria-current]")).to_be_in_viewport()
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.close()


@needs_browser
def test_every_control_has_a_name_and_can_be_reached(page: Page) -> None:
    for model in ("digits", "fraud"):
        choose(page, model)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("main input, main select, main textarea, main button")]
                .filter((each) => !(each.labels?.length || each.textContent.trim())).map((each) => each.outerHTML)"""
        )
        assert nameless == []
    page.get_by_label("amount").focus()
    for _ in range(8):
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Predict")).to_be_focused()


def test_the_policy_is_strict_and_the_files_are_typed(served: Server) -> None:
    for path, kind in {"": "text/html", "page/main.js": "text/javascript", "page/favicon.svg": "image/svg+xml"}.items():
        with urllib.request.urlopen(f"{served.url}/{path}") as answer:
            assert answer.headers.get_content_type() == kind
            policy = answer.headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_nothing_is_fetched_from_elsewhere() -> None:
    folder = Path(files.__file__).parent / "static"
    for file in folder.iterdir():
        addresses = set(re.findall(r"https?://[^\s\"'`$]+", file.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file.name


@pytest.mark.parametrize("name", ["nothing.js", "../page.py", "..", "", "/etc/hostname"])
def test_only_its_own_files_are_served(name: str) -> None:
    with pytest.raises(NotFound):
        files.file(name)
