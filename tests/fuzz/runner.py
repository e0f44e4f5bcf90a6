"""Runs one fuzz target under atheris: seeds on disk, a time limit per input, and a count at the end.

A target is a function of bytes that raises where an invariant does not hold. Arguments are
libFuzzer's own (``-runs=``, ``-seed=``, ``-max_total_time=``, a corpus folder to keep).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris

LIMITS = ["-timeout=5", "-rss_limit_mb=4096", "-max_len=8192"]  # an input that takes 5 s is a hang
TOKENS = (
    "POST ", "GET ", " HTTP/1.1\\x0d\\x0a", "\\x0d\\x0a\\x0d\\x0a", "Host: a\\x0d\\x0a", "Content-Length: ",
    "Transfer-Encoding: chunked", "Connection: close", "Upgrade: h2c", "Expect: 100-continue", "X-Request-ID: ",
    "Content-Encoding: gzip", "Inference-Header-Content-Length: ", "0\\x0d\\x0a\\x0d\\x0a",
    "\\\"inputs\\\":", "\\\"name\\\":", "\\\"shape\\\":", "\\\"datatype\\\":", "\\\"data\\\":", "\\\"parameters\\\":",
    "\\\"binary_data_size\\\":", "\\\"outputs\\\":", "\\\"binary_data\\\":true", "\\\"id\\\":", "null", "1e400", "-1",
    "9223372036854775808", "\\\\ud800", "\\\"b64\\\":",
)  # fmt: skip


def fuzz(target: Callable[[bytes], None], seeds: Sequence[bytes]) -> None:
    """Does not return: libFuzzer ends the process, with 0 where nothing was found."""
    options = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    corpus = folders[0] if folders else Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds):
        (corpus / f"seed-{index:03}").write_bytes(seed)
    tokens = corpus.with_suffix(".dict")
    tokens.write_text("".join(f'"{token}"\n' for token in TOKENS))
    atheris.Setup([sys.argv[0], *LIMITS, f"-dict={tokens}", *options, str(corpus)], target)
    atheris.Fuzz()
