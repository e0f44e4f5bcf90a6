"""A camera over RTSP: its frames come, and come again after it was away."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.edge.inputs.echo import Echo
from tests.edge.mosquitto import LIMIT, free_port, until

pytest.importorskip("av", reason="the video extra is not installed")

from tests.edge.inputs.camera import HEIGHT, WIDTH

from forwardpass.edge.inputs.video import VideoConfig, VideoInput

CAMERA = Path(__file__).with_name("camera.py")


def size(row: Any) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(row["b64"]))).size


@pytest.mark.slow
def test_a_camera_is_read_and_found_again_after_it_was_away(tmp_path: Path) -> None:
    url = f"rtsp://127.0.0.1:{free_port()}/gate"
    options = {"rtsp_flags": "listen", "listen_timeout": "10"}

    def send() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(CAMERA), url, "200"])

    async def test() -> None:
        predict = Echo()
        source = VideoInput(VideoConfig(url=url, options=options), "", tmp_path, lambda: itertools.repeat(0.1))
        task = asyncio.create_task(source.run(predict))
        first = send()
        try:
            await until(lambda: len(predict.rows) >= 5)
            first.kill()
            before = len(predict.rows)
            second = send()
            try:
                await until(lambda: len(predict.rows) >= before + 5)
            finally:
                second.kill()
                second.wait()
        finally:
            first.kill()
            first.wait()
            task.cancel()
            await asyncio.wait([task], timeout=LIMIT)
        assert {size(row) for row in predict.rows} == {(WIDTH, HEIGHT)}
        assert {where for where, _, _ in predict.asked} == {"video:127.0.0.1"}

    asyncio.run(asyncio.wait_for(test(), 4 * LIMIT))
