"""Finding what is written in a picture: one digit, letter or sign on a ground of one brightness.

In flow gray images as they were sent (any size, dark on light or light on dark, margins, uneven
light), out flow images of one size that hold the ink alone: 0 is ground, 1 is full ink. Knows no
image library and no model. Several signs in one picture are taken as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from forwardpass.config import doc
from forwardpass.pipeline.base import Step
from forwardpass.pipeline.columns import ColumnStep, objects, require
from forwardpass.types import Array, DType, TensorSpec

_MOST_PIXELS_A_SIDE = 256  # larger pictures are shrunk first: a pen stroke stays wider than a pixel
_LEAST_GROUND = 0.55  # share of the border that must be ground; a photograph's border is of all brightnesses
_TRIMMED = 0.005  # share of the ink that may lie outside the box at each side: specks of dust


@dataclass(frozen=True, kw_only=True)
class FindInk(ColumnStep):
    """Find the ink in gray images and crop to it: FP32 from 0 (ground) to 1 (ink), sizes differ.

    The ground is a plane fitted to the border's brightness, so light may fall unevenly; ink is what
    differs from it, to the side (darker or lighter) where more differs. An image without ink, or
    without a ground to tell it from, becomes a single pixel of ground.
    """

    name: ClassVar[str] = "find_ink"
    input: str = field(default="image", metadata=doc("column of gray images"))
    contrast: float = field(
        default=0.1, metadata=doc("least difference between ink and ground, as a share of black to white")
    )
    floor: float = field(default=0.2, metadata=doc("share of full ink below which a pixel is ground: paper, shadows"))

    def __post_init__(self) -> None:
        require(0 < self.contrast <= 1, self, f"contrast is {self.contrast}; give a share over 0 and up to 1")
        require(0 <= self.floor < 1, self, f"floor is {self.floor}; give a share from 0 to below 1")

    def result(self, spec: TensorSpec) -> TensorSpec:
        _check_images(self, spec, DType.UINT8, "decode_image with `mode: gray`")
        return TensorSpec(spec.name, DType.FP32, (None, None, None))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        def find(images: Array) -> Array:
            if not len(images):
                return np.empty((0, 0, 0), dtype=np.float32)
            crops = [_crop(_ink(_shrink(image), self.contrast * 255, self.floor)) for image in images]
            return objects(crops, len(crops))

        return find


@dataclass(frozen=True, kw_only=True)
class FitInk(ColumnStep):
    """Fit cropped ink into a square: the longer side fills it, proportions are kept, ink is centred."""

    name: ClassVar[str] = "fit_ink"
    input: str = field(default="image", metadata=doc("column of images from `find_ink`"))
    size: int = field(default=16, metadata=doc("pixels of the square's side"))

    def __post_init__(self) -> None:
        require(self.size >= 1, self, f"size is {self.size}; give a number of pixels from 1")

    def result(self, spec: TensorSpec) -> TensorSpec:
        _check_images(self, spec, DType.FP32, "find_ink")
        return TensorSpec(spec.name, DType.FP32, (None, self.size, self.size))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        def fit(crops: Array) -> Array:
            fitted = np.empty((len(crops), self.size, self.size), dtype=np.float32)
            for row, crop in enumerate(crops):
                height, width = crop.shape
                longer = max(height, width)
                fitted[row] = _weights(height, longer, self.size) @ crop @ _weights(width, longer, self.size).T
            return fitted

        return fit


def _check_images(step: Step, spec: TensorSpec, dtype: DType, source: str) -> None:
    fits = spec.dtype is dtype and len(spec.shape) == 3
    require(fits, step, f"column {spec.name!r} is {spec.dtype} {list(spec.shape)}; it works on images from {source}")


def _shrink(image: Array) -> Array:
    """The image as FP32, block means of it where it is large."""
    factor = -(-max(image.shape) // _MOST_PIXELS_A_SIDE)
    if factor == 1:
        return image.astype(np.float32)
    high, wide = min(factor, image.shape[0]), min(factor, image.shape[1])
    rows, columns = image.shape[0] // high, image.shape[1] // wide
    blocks = image[: rows * high, : columns * wide].reshape(rows, high, columns, wide)
    shrunk: Array = blocks.mean(axis=(1, 3), dtype=np.float32)
    return shrunk


def _ink(image: Array, contrast: float, floor: float) -> Array:
    """How much each pixel is ink, 0 to 1; all 0 where nothing differs from the ground by ``contrast``."""
    ground = _ground(image)
    if ground is None:
        return np.zeros_like(image)
    difference = image - ground
    dark, light = np.maximum(-difference, 0), np.maximum(difference, 0)
    ink: Array = dark if np.vdot(dark, dark) >= np.vdot(light, light) else light
    most = ink.max()
    if most < contrast:
        return np.zeros_like(ink)
    full = ink[ink > most / 2].mean()
    share: Array = np.clip((ink / full - floor) / (1 - floor), 0, 1)
    return share


def _ground(image: Array) -> Array | None:
    """A plane fitted to the border's brightness, leaving out where ink touches the border.

    ``None`` where the border is of too many brightnesses to be one ground.
    """
    height, width = image.shape
    down, across = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    left, right = np.full(height, -1, np.float32), np.full(height, 1, np.float32)
    top, bottom = np.full(width, -1, np.float32), np.full(width, 1, np.float32)
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    ys, xs = np.concatenate([top, bottom, down, down]), np.concatenate([across, across, left, right])
    off = np.abs(border - np.median(border))
    even = off <= max(8.0, 0.25 * float(np.ptp(image)))
    if even.mean() < _LEAST_GROUND:
        return None
    points = np.stack([np.ones_like(ys), ys, xs])[:, even]
    # a thousandth of ridge keeps a single row or column of pixels solvable
    level, slope_down, slope_across = np.linalg.solve(
        points @ points.T + 1e-3 * np.eye(3, dtype=np.float32), points @ border[even]
    )
    plane: Array = level + slope_down * down[:, None] + slope_across * across
    return plane


def _crop(ink: Array) -> Array:
    """The box that holds the ink but for specks; one pixel of ground where there is none."""
    total = float(ink.sum())
    if total == 0:
        return np.zeros((1, 1), dtype=np.float32)
    return np.ascontiguousarray(ink[_extent(ink.sum(axis=1), total), _extent(ink.sum(axis=0), total)])


def _extent(profile: Array, total: float) -> slice:
    so_far = np.cumsum(profile)
    first = int(np.searchsorted(so_far, _TRIMMED * total, side="right"))
    last = int(np.searchsorted(so_far, (1 - _TRIMMED) * total))
    return slice(min(first, last, len(profile) - 1), min(last, len(profile) - 1) + 1)


@lru_cache(maxsize=4096)
def _weights(length: int, longer: int, size: int) -> Array:
    """How ``length`` pixels, where ``longer`` fill ``size``, mix into ``size`` centred ones: [size, length].

    Triangle weights, as wide as a pixel of the coarser side: bilinear, without aliasing.
    """
    scale = longer / size
    centres = (np.arange(size) + 0.5 - size / 2) * scale + length / 2
    distance = np.abs(centres[:, None] - (np.arange(length) + 0.5)) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    # beyond the ink lies ground: weights that fall outside are left to it, not shared out
    whole = np.maximum(weights.sum(axis=1, keepdims=True), 1.0 if scale <= 1 else scale)
    result: Array = (weights / whole).astype(np.float32)
    result.flags.writeable = False
    return result
