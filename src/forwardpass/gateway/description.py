"""What a model that lies elsewhere takes and gives, from what its server says of it.

The protocol's metadata has names, types and shapes. Whether rows may run together is in its configuration where the
server has that extension, and what callers send (texts, images, ranges) in ``/models`` of a server of ours. Reads
answers; asks for none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forwardpass.config import InputConfig, ModelConfig
from forwardpass.errors import InvalidModel
from forwardpass.types import DType, InputSpec, InputType, ModelInfo, Signature, TensorSpec

Json = dict[str, Any]
OURS = "forwardpass"


@dataclass(frozen=True)
class Description:
    """``most_rows`` is how many the server takes at once, None where it does not say."""

    signature: Signature
    platform: str
    most_rows: int | None
    description: str = ""

    def fits(self, other: Description) -> bool:
        """Whether another server's model takes and gives the same tensors."""
        mine = [spec.tensor for spec in self.signature.inputs], list(self.signature.outputs)
        theirs = [spec.tensor for spec in other.signature.inputs], list(other.signature.outputs)
        return all(_by_name(a) == _by_name(b) for a, b in zip(mine, theirs, strict=True))


def describe(metadata: Json, settings: Json | None, person: Json | None, own: ModelConfig) -> Description:
    """From the model's metadata, its configuration and its entry in ``/models``; the latter two may be missing.

    ``own`` is the ``model.yaml`` here, which wins. Raises ``InvalidModel`` where the metadata cannot be understood.
    """
    try:
        inputs = [_tensor(entry) for entry in metadata["inputs"]]
        outputs = tuple(_tensor(entry) for entry in metadata["outputs"])
        most = None if settings is None else int(settings.get("max_batch_size", 0))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidModel(f"what it says of the model cannot be understood: {error!r}") from None
    if not inputs or not outputs:
        raise InvalidModel("what it says of the model names no inputs, or no outputs")
    specs = tuple(_input(tensor, own.inputs.get(tensor.name), _said(person, tensor.name)) for tensor in inputs)
    batched = _is_batched((*inputs, *outputs), most) if own.batching is None else own.batching
    words = str((person or {}).get("description") or "")
    return Description(Signature(specs, outputs, batched), str(metadata.get("platform", "")), most or None, words)


def information(description: Description, own: ModelConfig, urls: Sequence[str]) -> ModelInfo:
    """The version in words."""
    return ModelInfo(own.description or description.description, "remote", ", ".join(urls), tags=own.tags)


def _is_batched(tensors: Sequence[TensorSpec], most: int | None) -> bool:
    free = all(tensor.shape and tensor.shape[0] is None for tensor in tensors)
    return free if most is None else free and most > 0


def _tensor(entry: Json) -> TensorSpec:
    shape = tuple(None if int(axis) < 0 else int(axis) for axis in entry["shape"])
    return TensorSpec(str(entry["name"]), DType(entry["datatype"]), shape)


def _said(person: Json | None, name: str) -> Json:
    entries = (person or {}).get("inputs")
    entries = entries if isinstance(entries, list) else []
    return next((entry for entry in entries if isinstance(entry, dict) and entry.get("name") == name), {})


def _input(tensor: TensorSpec, own: InputConfig | None, said: Mapping[str, Any]) -> InputSpec:
    """What callers send: by the ``model.yaml`` here, else as the server says it to people, else the bare tensor."""
    if own is not None:
        allow_nan = own.allow_nan if own.allow_nan is not None else own.type is InputType.TENSOR or not own.required
        return InputSpec(
            tensor, own.type, own.description, own.required, own.minimum, own.maximum, allow_nan, own.categories,
            own.max_length, own.max_pixels if own.type is InputType.IMAGE else None,
        )  # fmt: skip
    try:
        return InputSpec(
            tensor, InputType(said.get("type", "tensor")), str(said.get("description", "")),
            bool(said.get("required", True)), said.get("minimum"), said.get("maximum"),
            bool(said.get("allow_nan", True)), tuple(said.get("categories") or ()), said.get("max_length"),
            said.get("max_pixels"),
        )  # fmt: skip
    except (ValueError, TypeError):  # a newer server's words
        return InputSpec(tensor)


def _by_name(tensors: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    return {tensor.name: tensor for tensor in tensors}
