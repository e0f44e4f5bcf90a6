"""A camera for tests: pushes grey frames over RTSP until it has sent them, each as light as its number says.

Run as ``python camera.py URL FRAMES``; tries again while nobody listens. Real cameras are pulled from, this one pushes
(FFmpeg is no RTSP server), so who reads it says ``rtsp_flags: listen``; what goes over the wire is the same.
"""

from __future__ import annotations

import sys
import time
from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT, RATE = 160, 120, 20
TRIES = 200


def main(url: str, frames: int) -> None:
    """Send them, in the time that they take."""
    for _ in range(TRIES):
        try:
            container = av.open(url, "w", format="rtsp", options={"rtsp_transport": "tcp"})
            stream = container.add_stream("mjpeg", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            container.start_encoding()
        except (av.FFmpegError, OSError):
            time.sleep(0.1)
            continue
        with container:
            for number in range(frames):
                picture = np.full((HEIGHT, WIDTH, 3), number % 256, np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                container.mux(stream.encode(frame))
                time.sleep(1 / RATE)
        return
    sys.exit(f"nobody listens at {url}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
