"""Steps on images: decode, resize, crop, normalise, lay out.

In flow the bytes of image files, out flow tensors. An image is a UINT8 array ``[height, width, 3]``,
or ``[height, width]`` where it is gray; while sizes differ, a column is an object array of such
arrays. Pillow is imported here alone, when a step is opened. Knows no network's habits: sizes,
means and orders are parameters.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from forwardpass.config import doc
from forwardpass.pipeline.columns import ColumnStep, map_rows, objects, require
from forwardpass.types import Array, DType, TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

Format = Literal["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]
Layout = Literal["CHW", "HWC"]
FORMATS: tuple[Format, ...] = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_PILLOW_MOST_PIXELS = 178_956_970  # Pillow refuses larger images by itself
# what Pillow raises for files that are cut off or damaged
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, TypeError, OverflowError)
# EXIF orientation -> Pillow's transpositions (FLIP_LEFT_RIGHT 0, FLIP_TOP_BOTTOM 1, ROTATE_90 2, …)
_TRANSPOSE = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_ORIENTATION = 0x0112


@dataclass(frozen=True, kw_only=True)
class DecodeImage(ColumnStep):
    """Decode image files: PNG, JPEG, WebP, BMP, GIF and TIFF (the first frame), turned as EXIF says.

    Transparent parts show the background. 16-bit gray keeps its upper 8 bits. The size is checked
    against `max_pixels` before anything is decoded.
    """

    name: ClassVar[str] = "decode_image"
    input: str = field(default="image", metadata=doc("column of image files"))
    mode: Literal["rgb", "gray"] = field(default="rgb", metadata=doc("`rgb` gives three channels, `gray` none"))
    formats: tuple[Format, ...] = field(default=FORMATS, metadata=doc("formats that are read"))
    max_pixels: int = field(default=50_000_000, metadata=doc("most pixels (width times height); larger is refused"))
    background: tuple[int, int, int] = field(
        default=(255, 255, 255), metadata=doc("colour behind transparent parts: red, green, blue")
    )
    at_least: tuple[int, int] | None = field(
        default=None,
        metadata=doc(
            "`[width, height]` that is enough: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size while "
            "it stays this large, in about half the time"
        ),
    )

    def __post_init__(self) -> None:
        most = _PILLOW_MOST_PIXELS
        require(1 <= self.max_pixels <= most, self, f"max_pixels is {self.max_pixels}; give 1 to {most}")
        require(
            all(0 <= part <= 255 for part in self.background), self, f"background {self.background} is not 0 to 255"
        )
        require(bool(self.formats), self, "formats is empty; name at least one")
        positive = self.at_least is None or min(self.at_least) >= 1
        require(positive, self, f"at_least is {self.at_least}; give a width and a height from 1")

    def result(self, spec: TensorSpec) -> TensorSpec:
        require(spec.dtype is DType.BYTES, self, f"column {spec.name!r} is {spec.dtype}; it works on image files")
        return TensorSpec(spec.name, DType.UINT8, (None, None, None, *self._channels))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        import_pillow()

        def decode(column: Array) -> Array:
            images = map_rows(self._decode, column, self.input)
            if not images:
                return np.empty((0, 0, 0, *self._channels), dtype=np.uint8)
            return objects(images, len(images))

        return decode

    @property
    def _channels(self) -> tuple[int, ...]:
        return (3,) if self.mode == "rgb" else ()

    def _decode(self, data: Any) -> Array:
        if not isinstance(data, bytes):
            raise ValueError(f"a value of type {type(data).__name__} is no image file; send its bytes")
        image = open_image(data, self.formats)
        check_size(image.size, self.max_pixels)
        if image.mode in ("I", "F"):
            raise ValueError("its pixels have 32 bits, whose range is not known; send 8 or 16 bits")
        try:
            if self.at_least is not None:
                # the size is meant as people see it: a JPEG on its side has width and height swapped
                image.draft(None, self.at_least[::-1] if _orientation(image) >= 5 else self.at_least)
            image.load()
            turn = _TRANSPOSE.get(_orientation(image))  # only now: loading a TIFF turns it already
            plain = _flatten(image, self.mode, self.background)
        except _DAMAGED as reason:
            raise ValueError(f"the {image.format} file is damaged or cut off ({reason}); send it whole") from None
        return np.asarray(plain if turn is None else plain.transpose(turn))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class ResizeImage(ColumnStep):
    """Bring images to one size: UINT8 `[rows, height, width, 3]`, or without the 3 where gray.

    Filters are Pillow's: when shrinking they average over all pixels, as `antialias` does elsewhere.
    """

    name: ClassVar[str] = "resize_image"
    input: str = field(default="image", metadata=doc("column of decoded images"))
    width: int = field(metadata=doc("pixels"))
    height: int = field(metadata=doc("pixels"))
    fit: Literal["stretch", "crop", "pad"] = field(
        default="stretch",
        metadata=doc(
            "`stretch` changes proportions, `crop` keeps them and cuts off, centred, what is over, "
            "`pad` keeps them and fills up"
        ),
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box"] = field(
        default="bilinear", metadata=doc("filter; use the one the model was trained with")
    )
    pad_value: int = field(default=0, metadata=doc("brightness to fill up with, 0 to 255"))

    def __post_init__(self) -> None:
        require(min(self.width, self.height) >= 1, self, f"size {self.width}x{self.height}; give pixels from 1")
        require(0 <= self.pad_value <= 255, self, f"pad_value is {self.pad_value}; give 0 to 255")

    def result(self, spec: TensorSpec) -> TensorSpec:
        _images(self, spec)
        require(spec.dtype is DType.UINT8, self, f"column {spec.name!r} is {spec.dtype}; it works on UINT8 images")
        require(
            spec.shape[3:] in ((), (3,)), self, f"column {spec.name!r} has shape {list(spec.shape)}; use rgb or gray"
        )
        return replace(spec, shape=(None, self.height, self.width, *spec.shape[3:]))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        pillow = import_pillow()
        resample = pillow.Resampling[self.interpolation.upper()]

        def resize(column: Array) -> Array:
            column = _typed(column)
            channels = column[0].shape[2:] if len(column) else column.shape[3:]
            resized = np.full((len(column), self.height, self.width, *channels), self.pad_value, dtype=np.uint8)
            for row, image in enumerate(column):
                self._resize(image, resized[row], pillow.fromarray, resample)
            return resized

        return resize

    def _resize(self, image: Array, into: Array, fromarray: Callable[[Array], Image], resample: Any) -> None:
        high, wide = image.shape[:2]
        if (high, wide) == (self.height, self.width):
            into[...] = image
            return
        size, box = (self.width, self.height), (0.0, 0.0, float(wide), float(high))
        if self.fit == "crop":
            scale = max(self.width / wide, self.height / high)
            left, top = (wide - self.width / scale) / 2, (high - self.height / scale) / 2
            box = (max(left, 0.0), max(top, 0.0), min(wide - left, wide), min(high - top, high))
        elif self.fit == "pad":
            scale = min(self.width / wide, self.height / high)
            size = (max(round(wide * scale), 1), max(round(high * scale), 1))
        left_at, top_at = (self.width - size[0]) // 2, (self.height - size[1]) // 2
        resized = fromarray(image).resize(size, resample, box)
        into[top_at : top_at + size[1], left_at : left_at + size[0]] = np.asarray(resized)


@dataclass(frozen=True, kw_only=True)
class CentreCrop(ColumnStep):
    """Cut the centre out of images. An image smaller than that is refused."""

    name: ClassVar[str] = "centre_crop"
    input: str = field(default="image", metadata=doc("column of decoded images"))
    width: int = field(metadata=doc("pixels"))
    height: int = field(metadata=doc("pixels"))

    def __post_init__(self) -> None:
        require(min(self.width, self.height) >= 1, self, f"size {self.width}x{self.height}; give pixels from 1")

    def result(self, spec: TensorSpec) -> TensorSpec:
        shape = _images(self, spec).shape
        known = all(axis is None or axis >= wanted for axis, wanted in zip(shape[1:3], self._size, strict=True))
        require(known, self, f"{self.width}x{self.height} is larger than the images of {spec.name!r}")
        return replace(spec, shape=(None, *self._size, *shape[3:]))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        def crop(column: Array) -> Array:
            column = _typed(column)
            if not len(column):
                return np.empty((0, *self._size, *column.shape[3:]), dtype=column.dtype)
            return np.stack(map_rows(self._crop, column, self.input))

        return crop

    @property
    def _size(self) -> tuple[int, int]:
        return (self.height, self.width)

    def _crop(self, image: Array) -> Array:
        top, left = ((there - wanted) // 2 for there, wanted in zip(image.shape[:2], self._size, strict=True))
        if top < 0 or left < 0:
            raise ValueError(
                f"the image is {image.shape[1]}x{image.shape[0]} pixels; it must be at least {self.width}x{self.height}"
            )
        return image[top : top + self.height, left : left + self.width]


@dataclass(frozen=True, kw_only=True)
class NormaliseImage(ColumnStep):
    """Turn pixels into FP32: `(pixel * scale - mean) / std` for each channel, and lay them out."""

    name: ClassVar[str] = "normalise_image"
    input: str = field(default="image", metadata=doc("column of images"))
    scale: float = field(default=1 / 255, metadata=doc("factor applied first; 1/255 gives 0 to 1"))
    mean: float | tuple[float, ...] = field(
        default=0.0, metadata=doc("subtracted then: one number, or one per channel")
    )
    std: float | tuple[float, ...] = field(default=1.0, metadata=doc("divided by last: one number, or one per channel"))
    layout: Layout = field(default="CHW", metadata=doc("order of the axes; gray images get an axis of one channel"))

    def __post_init__(self) -> None:
        require(bool(np.all(np.asarray(self.std) != 0)), self, f"std {self.std} has a zero; give what to divide by")

    def result(self, spec: TensorSpec) -> TensorSpec:
        shape = _images(self, spec).shape
        channels = shape[3] if len(shape) == 4 else 1
        for name, value in (("mean", self.mean), ("std", self.std)):
            fits = not isinstance(value, tuple) or channels is None or len(value) == channels
            require(fits, self, f"{name} is {value}, but column {spec.name!r} has {channels} channels")
        return replace(spec, dtype=DType.FP32, shape=_laid_out(shape, self.layout))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        std = np.asarray(self.std, dtype=np.float64)
        factor, offset = self._per_channel(self.scale / std), self._per_channel(np.asarray(self.mean) / std)

        def normalise(images: Array) -> Array:
            laid_out = _lay_out(images, self.layout)
            pixels = np.empty(laid_out.shape, dtype=np.float32)
            pixels[...] = laid_out  # converts and transposes in one pass
            pixels *= factor
            pixels -= offset
            return pixels

        return lambda column: _by_shape(normalise, column)

    def _per_channel(self, values: Array) -> Array:
        flat = values.astype(np.float32).reshape(-1)
        return flat[:, None, None] if self.layout == "CHW" else flat


@dataclass(frozen=True, kw_only=True)
class LayOut(ColumnStep):
    """Order the axes of images, the type kept. `normalise_image` does this in the same pass."""

    name: ClassVar[str] = "layout"
    input: str = field(default="image", metadata=doc("column of images"))
    to: Layout = field(default="CHW", metadata=doc("order of the axes; gray images get an axis of one channel"))

    def result(self, spec: TensorSpec) -> TensorSpec:
        return replace(spec, shape=_laid_out(_images(self, spec).shape, self.to))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        return lambda column: _by_shape(lambda images: np.ascontiguousarray(_lay_out(images, self.to)), column)


def import_pillow() -> Any:
    """``PIL.Image`` with the formats we read registered."""
    from PIL import Image

    Image.preinit()
    return Image


def open_image(data: bytes, formats: tuple[str, ...] = FORMATS) -> Image:
    """The image with its header read and nothing decoded. Raises ``ValueError`` where it is none."""
    pillow = import_pillow()
    try:
        image: Image = pillow.open(io.BytesIO(data), formats=formats)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as reason:
        raise ValueError(f"the image is too large: {reason}") from None
    except _DAMAGED:
        known = ", ".join(formats)
        raise ValueError(f"{len(data)} bytes that begin with {data[:8]!r} are no image; send one of {known}") from None
    return image


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raise ``ValueError`` where an image of width and height has more pixels than allowed."""
    width, height = size
    if width * height > max_pixels:
        raise ValueError(f"the image is {width}x{height} pixels; at most {max_pixels} are allowed, send a smaller one")


def _orientation(image: Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGED:  # a damaged EXIF block says nothing of the pixels
        return 1


def _flatten(image: Image, mode: str, background: tuple[int, int, int]) -> Image:
    """The image in the wanted mode: transparency on a background, 16 bits cut to 8."""
    pillow = import_pillow()
    if image.mode.startswith("I;16"):
        image = pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = pillow.alpha_composite(pillow.new("RGBA", image.size, (*background, 255)), image.convert("RGBA"))
    wanted = "RGB" if mode == "rgb" else "L"
    return image if image.mode == wanted else image.convert(wanted)


def _images(step: ColumnStep, spec: TensorSpec) -> TensorSpec:
    fits = spec.dtype is not DType.BYTES and len(spec.shape) in (3, 4)
    require(fits, step, f"column {spec.name!r} is {spec.dtype} {list(spec.shape)}; decode images first (decode_image)")
    return spec


def _typed(column: Array) -> Array:
    """No rows of unknown shape count as no coloured images."""
    return column if len(column) or column.ndim > 1 else np.empty((0, 0, 0, 3), dtype=np.uint8)


def _by_shape(function: Callable[[Array], Array], column: Array) -> Array:
    """A function on images of one size over a column; row by row where the column holds unlike sizes."""
    column = _typed(column)
    if column.dtype.kind != "O":
        return function(column)
    images = [function(image[None])[0] for image in column]
    alike = len({image.shape for image in images}) == 1
    return np.stack(images) if alike else objects(images, len(images))


def _lay_out(images: Array, layout: Layout) -> Array:
    """A view of ``[rows, h, w]`` or ``[rows, h, w, c]`` in the wanted order, the channel axis added."""
    with_channel = images[..., None] if images.ndim == 3 else images
    return with_channel.transpose(0, 3, 1, 2) if layout == "CHW" else with_channel


def _laid_out(shape: tuple[int | None, ...], layout: Layout) -> tuple[int | None, ...]:
    rows, height, width, *channel = shape
    channels = channel[0] if channel else 1
    return (rows, channels, height, width) if layout == "CHW" else (rows, height, width, channels)
