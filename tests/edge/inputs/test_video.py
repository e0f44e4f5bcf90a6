"""Video as an input: frames as pictures, how many a second, the newest wins, and what is no video."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
from collections.abc import Awaitable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.edge.inputs.echo import Echo
from tests.edge.mosquitto import LIMIT, until

from forwardpass.edge.inputs import create_input
from forwardpass.edge.prediction import Prediction
from forwardpass.errors import InvalidSettings

av = pytest.importorskip("av", reason="the video extra is not installed")

from forwardpass.edge.inputs.video import VideoConfig, VideoInput, encode  # noqa: E402

FRAMES, RATE = 20, 10


def write_video(folder: Path) -> Path:
    """Two seconds of grey frames, each a bit lighter; FFV1 loses nothing."""
    file = folder / "film.mkv"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("ffv1", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "bgr0"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), number * 10, np.uint8), "rgb24").reformat(
                format="bgr0"
            )
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file


def grey(row: Any) -> int:
    """How light a frame is that came as a picture file."""
    picture = Image.open(io.BytesIO(base64.b64decode(row["b64"])))
    assert picture.size == (32, 16)
    value: int = np.asarray(picture.convert("RGB"))[8, 16, 0]
    return value


def run(test: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * LIMIT))


@pytest.mark.parametrize("kind", ["bmp", "png", "jpeg"])
def test_every_frame_of_a_file_is_a_picture_and_then_it_ends(tmp_path: Path, kind: Any) -> None:
    write_video(tmp_path)
    source, predict = VideoInput(VideoConfig(url="film.mkv", picture=kind), "", tmp_path), Echo()
    run(source.run(predict))
    assert [grey(row) for row in predict.rows] == pytest.approx(
        [n * 10 for n in range(FRAMES)], abs=3 * (kind == "jpeg")
    )
    assert source.counts == {"read": FRAMES, "answered": FRAMES, "failed": 0, "dropped": 0, "skipped": 0}
    assert {where for where, _, _ in predict.asked} == {"video:film.mkv"}


def test_frames_that_come_faster_than_wanted_are_not_read(tmp_path: Path) -> None:
    write_video(tmp_path)
    source, predict = VideoInput(VideoConfig(url="film.mkv", fps=2.0), "", tmp_path), Echo()
    run(source.run(predict))
    assert [grey(row) for row in predict.rows] == [0, 50, 100, 150]
    assert source.counts["skipped"] == FRAMES - 4


def test_of_a_live_stream_the_newest_frame_wins_and_the_others_are_counted(tmp_path: Path) -> None:
    class Slow(Echo):
        async def __call__(self, rows: list[Any], source: str, id: str | None = None) -> Prediction:
            if not self.asked:  # meanwhile the rest of the film goes by
                await until(lambda: video.counts["read"] == FRAMES)
            return await super().__call__(rows, source, id)

    write_video(tmp_path)
    video, predict = VideoInput(VideoConfig(url="film.mkv", live=True), "", tmp_path), Slow()
    run(video.run(predict))
    assert grey(predict.rows[-1]) == (FRAMES - 1) * 10
    assert len(predict.rows) <= 3
    assert video.counts["answered"] + video.counts["dropped"] == FRAMES


@pytest.mark.parametrize("live", [False, True])
def test_it_can_be_stopped_in_the_middle(tmp_path: Path, live: bool) -> None:
    async def test() -> None:
        predict = Echo()
        predict.gate.clear()
        task = asyncio.create_task(VideoInput(VideoConfig(url="film.mkv", live=live), "", tmp_path).run(predict))
        await until(lambda: bool(predict.asked))
        task.cancel()
        await asyncio.wait([task], timeout=LIMIT)
        assert task.cancelled()

    write_video(tmp_path)
    run(test())


@pytest.mark.parametrize("live", [False, True])
def test_stopped_it_answers_the_frames_that_were_taken(tmp_path: Path, live: bool) -> None:
    async def test() -> None:
        video, predict = VideoInput(VideoConfig(url="film.mkv", live=live), "", tmp_path), Echo()
        predict.gate.clear()
        task = asyncio.create_task(video.run(predict))
        await until(lambda: bool(predict.asked))
        video.stop()
        predict.gate.set()
        await task
        assert 1 <= len(predict.asked) <= 2  # one that was decoded may wait
        await until(lambda: video.counts["read"] == video.counts["answered"] + video.counts["dropped"])
        await video.run(predict)
        assert len(predict.asked) <= 2

    write_video(tmp_path)
    run(test())


@pytest.mark.parametrize("content", [None, b"this is no film"])
def test_what_cannot_be_opened_is_a_problem_and_tried_again(tmp_path: Path, content: bytes | None) -> None:
    async def test() -> None:
        source = VideoInput(VideoConfig(url="film.mkv"), "", tmp_path, lambda: itertools.repeat(0.01))
        task = asyncio.create_task(source.run(Echo()))
        await until(lambda: bool(source.problem))
        write_video(tmp_path)
        await until(task.done)
        assert source.counts["answered"] == FRAMES

    if content is not None:
        (tmp_path / "film.mkv").write_bytes(content)
    run(test())


def test_what_nobody_foresaw_in_the_thread_that_decodes_is_raised(tmp_path: Path) -> None:
    write_video(tmp_path)
    source = VideoInput(VideoConfig(url="film.mkv", options={"threads": 3}), "", tmp_path)  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        run(source.run(Echo()))


@pytest.mark.parametrize("password", ["secret", "se\\cret", "secr'\"et"])
def test_the_password_of_a_camera_is_not_told(password: str) -> None:
    source = create_input({"type": "video", "url": f"rtsp://admin:{password}@127.0.0.1:1/stream", "timeout": 1.0})

    async def test() -> None:
        task = asyncio.create_task(source.run(Echo()))
        await until(lambda: bool(source.problem))
        task.cancel()
        await asyncio.wait([task])

    run(test())
    assert source.name == "video:127.0.0.1"
    assert source.problem == "Connection refused"


def test_uneven_sizes_are_encoded_too() -> None:
    frame = av.VideoFrame.from_ndarray(np.zeros((7, 9, 3), np.uint8), "rgb24")
    assert Image.open(io.BytesIO(encode(frame, "jpeg"))).size == (9, 7)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"url": "a", "fps": 0}, "fps must be above 0"),
        ({"url": "a", "picture": "gif"}, "gif"),
        ({}, "`url` is missing"),
        ({"url": "rtsp://u:SECRET@[x"}, "^inputs: video: url cannot be read: .*not shown"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message) as raised:
        create_input({"type": "video", **entry})
    assert "SECRET" not in raised.value.message
