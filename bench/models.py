"""Builds the models, the request bodies and the expected answers under one work folder, once.

    models/tiny/model.onnx                                  a bare artifact
    models/text/model.onnx, tokenizer.json, model.yaml
    models/image/model.onnx, model.yaml
    requests/tiny.json, tiny.bin, text_00.json …, image.jpg
    expected.json                                           by ONNX Runtime, run directly

Run as its own process (``python -m bench.models FOLDER``): the process that measures must not map
the libraries whose memory it measures.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCES = ("models.py", "graphs.py", "texts.py", "raw.py")
HEADER_LENGTH_FILE = "tiny.bin.header"
TEXT_YAML = """\
description: A text encoder of MiniLM-L6's shape with random weights.
inputs:
  text: {type: text}
preprocess:
  - {step: tokenise, max_length: 128}
outputs: [embedding]
"""
IMAGE_YAML = """\
description: An image network of ResNet-18's shape with random weights.
inputs:
  image: {type: image}
preprocess:
  - {step: decode_image}
  - {step: resize_image, width: 224, height: 224, fit: crop}
  - {step: normalise_image, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], layout: CHW}
outputs: [scores]
"""


def prepare(work: Path) -> None:
    """Build what is missing or out of date, in a process of its own."""
    here = Path(__file__).parent
    stamp = hashlib.sha256(b"".join((here / name).read_bytes() for name in SOURCES)).hexdigest()
    marker = work / "built"
    if marker.is_file() and marker.read_text() == stamp:
        return
    subprocess.run([sys.executable, "-m", "bench.models", str(work)], check=True, cwd=here.parent)
    marker.write_text(stamp)


def build(work: Path) -> None:
    import onnx

    from bench.graphs import image_network, text_encoder, tiny_network
    from bench.texts import train_tokenizer

    for kind, network in (("tiny", tiny_network), ("text", text_encoder), ("image", image_network)):
        folder = work / "models" / kind
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(network(), folder / "model.onnx")
    train_tokenizer().save(str(work / "models/text/tokenizer.json"))
    (work / "models/text/model.yaml").write_text(TEXT_YAML)
    (work / "models/image/model.yaml").write_text(IMAGE_YAML)
    write_requests(work / "requests")
    (work / "expected.json").write_text(json.dumps(expected_answers(work)))


def write_requests(folder: Path) -> None:
    from bench.texts import mixed_texts, sentences

    folder.mkdir(parents=True, exist_ok=True)
    row = tiny_row()
    (folder / "tiny.json").write_bytes(_v2("x", "FP32", [1, 64], row))
    (folder / "plain.json").write_text(json.dumps({"instances": [row]}))
    header, tensor = tiny_binary(row)
    (folder / "tiny.bin").write_bytes(header + tensor)
    (folder / HEADER_LENGTH_FILE).write_text(str(len(header)))
    for number, sentence in enumerate(sentences(64)):
        (folder / f"text_{number:02}.json").write_bytes(_v2("text", "BYTES", [1], [sentence]))
    for number, text in enumerate(mixed_texts()):
        (folder / f"mixed_{number:03}.json").write_bytes(_v2("text", "BYTES", [1], [text]))
    (folder / "image.jpg").write_bytes(photograph())


def tiny_row() -> list[float]:
    """64 numbers with six decimals, as a client would have them."""
    import numpy as np

    return [round(float(value), 6) for value in np.random.default_rng(4).standard_normal(64)]


def tiny_binary(row: list[float]) -> tuple[bytes, bytes]:
    """JSON header and little-endian FP32 tensor of a V2 request with binary data both ways."""
    import numpy as np

    tensor = np.array(row, dtype="<f4").tobytes()
    given = {"name": "x", "shape": [1, 64], "datatype": "FP32", "parameters": {"binary_data_size": len(tensor)}}
    header = {"inputs": [given], "parameters": {"binary_data_output": True}}
    return json.dumps(header, separators=(",", ":")).encode(), tensor


def photograph(width: int = 640, height: int = 480) -> bytes:
    """A photograph of about 100 kB as JPEG (one that scikit-learn ships, scaled)."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image("china.jpg")).resize((width, height), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88)
    return data.getvalue()


def expected_answers(work: Path) -> dict[str, list[float]]:
    """The answer to the first request of each kind, by ONNX Runtime with no server."""
    import numpy as np

    from bench.raw import RawImage, RawText, open_session

    session = open_session(work / "models/tiny/model.onnx")
    tiny = session.run(None, {"x": np.array([tiny_row()], dtype=np.float32)})[0]
    text, image = RawText(work / "models/text"), RawImage(work / "models/image")
    answers = {"tiny": tiny, "text": text.run(text.inputs[:1]), "image": image.run(image.inputs[:1])}
    return {kind: [float(value) for value in answer[0]] for kind, answer in answers.items()}


def _v2(name: str, datatype: str, shape: list[int], data: list[Any]) -> bytes:
    tensor = {"name": name, "shape": shape, "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


if __name__ == "__main__":
    build(Path(sys.argv[1]))
