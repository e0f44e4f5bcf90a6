"""A camera, a video file or an RTSP stream as an input: one frame is one row, a picture.

    decoder (a thread) ─► every `1/fps` seconds of the stream ─► the newest frame ─► predict

Of a live stream the newest frame wins: one that came before it and was not yet taken is dropped, and
counted. A file waits for its frames to be taken, and ends; a stream that ends is opened again.
Frames are handed over as BMP files: nothing is lost and little is computed. The source is
``video:NAME``. Knows no model.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import av

from forwardpass.config import doc
from forwardpass.edge.inputs.base import InputBase, Predict
from forwardpass.edge.inputs.payload import picture
from forwardpass.edge.waits import waits
from forwardpass.errors import InvalidSettings

log = logging.getLogger("forwardpass.edge")
# encoder and the pixels it takes
ENCODERS = {"bmp": ("bmp", "bgr24"), "png": ("png", "rgb24"), "jpeg": ("mjpeg", "yuvj444p")}


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """An entry of ``inputs:`` with ``type: video``."""

    url: str = field(metadata=doc("file, device such as `/dev/video0`, or `rtsp://…`"))
    name: str | None = field(default=None, metadata=doc("what its source is called; default: the host or the file"))
    fps: float | None = field(default=None, metadata=doc("most frames a second; default: as many as come"))
    live: bool | None = field(
        default=None, metadata=doc("`true`: drop frames rather than fall behind; default: for all but files")
    )
    format: str | None = field(default=None, metadata=doc("how a device is read, such as `v4l2`; default: found out"))
    picture: Literal["bmp", "png", "jpeg"] = field(default="bmp", metadata=doc("what a frame is handed over as"))
    options: dict[str, str] = field(default_factory=dict, metadata=doc("options of FFmpeg for this kind of source"))
    timeout: float = field(default=10.0, metadata=doc("seconds in which a stream must open, and give each frame"))

    def __post_init__(self) -> None:
        try:
            urlsplit(self.url)
        except ValueError as error:
            raise InvalidSettings(
                f"inputs: video: url cannot be read: {error}; it is not shown here, because it may hold a password"
            ) from None
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise InvalidSettings(f"inputs: video: fps must be above 0, got {self.fps}")
        if not 0 < self.timeout < math.inf:
            raise InvalidSettings(f"inputs: video: timeout must be above 0, got {self.timeout}")


class VideoInput(InputBase):
    """See ``Input``. Frames between those that ``fps`` wants are not read; they are counted as ``skipped``."""

    Config: ClassVar[type[VideoConfig]] = VideoConfig

    def __init__(
        self, config: VideoConfig, device: str, home: Path, pauses: Callable[[], Iterator[float]] = waits
    ) -> None:
        parts = urlsplit(config.url)
        file = not parts.scheme and not config.url.startswith("/dev/")
        super().__init__(f"video:{config.name or parts.hostname or Path(config.url).name}")
        self._config = config
        self._url = str(home / config.url) if file else config.url
        self._live = not file if config.live is None else config.live
        self._file = file
        self._pauses = pauses
        self._frames: _Newest | None = None
        self.counts["skipped"] = 0

    def stop(self) -> None:
        super().stop()
        if self._frames is not None:
            self._frames.stop()

    async def run(self, predict: Predict) -> None:
        pauses = self._pauses()
        while not self.stopping.is_set():
            before = self.counts["read"]
            try:
                await self._watch(predict)
                if self._file or self.stopping.is_set():
                    return
                self.problem = "the stream ended"
            except (av.FFmpegError, OSError) as error:
                reason = error.strerror or str(error)  # never with the URL, which may hold a password
                if not self.problem:
                    log.warning("%s: %s; trying again", self.name, reason)
                self.problem = reason
            if self.counts["read"] > before:
                pauses = self._pauses()
            await self.pause(next(pauses))

    async def _watch(self, predict: Predict) -> None:
        """Hand over frames until there are no more. Raises what the library does."""
        with closing(_Newest(self._live)) as frames:
            self._frames = frames
            # not waited for when this is cancelled: a camera may be silent for `timeout` seconds
            threading.Thread(target=self._decode, args=(frames,), name="video", daemon=True).start()
            while (frame := await frames.take()) is not None:
                if self.problem:
                    log.info("%s: goes on", self.name)
                self.problem = ""
                content = await asyncio.to_thread(encode, frame, self._config.picture)
                await self.ask(predict, [picture(content)], self.name)
        if frames.error is not None:
            raise frames.error

    def _decode(self, frames: _Newest) -> None:
        error: Exception | None = None
        try:
            with av.open(
                self._url, format=self._config.format, options=dict(self._config.options), timeout=self._config.timeout
            ) as container:
                for frame in self._wanted(container.decode(video=0)):
                    if frames.stopped:
                        return
                    self.count("read")
                    self.count("dropped", frames.put(frame))
        except IndexError:
            error = OSError("it holds no video")
        except Exception as reason:  # noqa: BLE001 -- raised where it is waited for
            error = reason
        frames.end(error)

    def _wanted(self, frames: Iterator[Any]) -> Iterator[Any]:
        """As many as ``fps`` says, by the stream's own clock."""
        due = -math.inf
        for frame in frames:
            time = frame.time
            if self._config.fps is None or time is None or time >= due:
                due = (time or 0.0) + 1 / self._config.fps - 1e-6 if self._config.fps else due
                yield frame
            else:
                self.count("skipped")


class _Newest:
    """The newest frame, handed from a thread to the loop. Not ``live``: ``put`` waits until the last one was taken.

    Once it has stopped, what waits can still be taken, and what is put is dropped.
    """

    def __init__(self, live: bool) -> None:
        self._live = live
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._change = threading.Condition()
        self._frame: Any = None
        self._ended = False
        self.stopped = False
        self.error: Exception | None = None

    def put(self, frame: Any) -> int:
        """How many frames were dropped for it."""
        with self._change:
            while self._frame is not None and not self._live and not self.stopped:
                self._change.wait()
            if self.stopped:
                return 1
            dropped = int(self._frame is not None)
            self._frame = frame
        self._tell()
        return dropped

    def end(self, error: Exception | None) -> None:
        """No more frames will come, because of ``error`` or because that was all."""
        self.error = error
        self._ended = True
        self._tell()

    async def take(self) -> Any:
        """The newest frame; None when there are no more."""
        while True:
            self._arrived.clear()
            ended = self._ended  # looked at first: a frame that comes now must not be missed
            with self._change:
                frame, self._frame = self._frame, None
                self._change.notify()
            if frame is not None or ended:
                return frame
            await self._arrived.wait()

    def stop(self) -> None:
        """No more frames are wanted; a camera that is silent is not waited for."""
        with self._change:
            self.stopped = True
            self._change.notify()
        self._ended = True
        self._tell()

    close = stop

    def _tell(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.set)


def encode(frame: Any, kind: str) -> bytes:
    """One frame as the bytes of a picture file. Raises ``av.FFmpegError``."""
    name, pixels = ENCODERS[kind]
    same = frame.reformat(format=pixels)
    same.pts = None
    codec = av.CodecContext.create(name, "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = same.width, same.height, pixels, Fraction(1, 25)
    if kind == "jpeg":
        codec.qmin = codec.qmax = 2
    packets = [*codec.encode(same), *codec.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
