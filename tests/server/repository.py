"""A repository of tiny bare models, one of each kind that a client may meet."""

from __future__ import annotations

from pathlib import Path

from tests import artifacts


def tiny_models(folder: Path) -> Path:
    """Into a folder; one of them cannot be loaded."""
    artifacts.affine(folder / "affine" / "model.onnx")
    artifacts.two_inputs(folder / "two-inputs" / "model.onnx")
    artifacts.identity(folder / "bytes" / "model.onnx", "BYTES")
    artifacts.identity(folder / "half" / "model.onnx", "FP16")
    artifacts.identity(folder / "brain" / "model.onnx", "BF16")
    artifacts.identity(folder / "bool" / "model.onnx", "BOOL")
    artifacts.lookup(folder / "lookup" / "model.onnx")
    artifacts.no_batch_axis(folder / "unbatched" / "model.onnx")
    artifacts.identity(folder / "versions" / "1" / "model.onnx", "INT64")
    artifacts.identity(folder / "versions" / "2" / "model.onnx", "INT64")
    broken = folder / "broken" / "model.onnx"
    broken.parent.mkdir()
    broken.write_bytes(b"not a model")
    return folder
