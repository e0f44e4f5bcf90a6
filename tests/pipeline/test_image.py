"""Formats, orientation, transparency, damage and size limits; geometry against plain arithmetic."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.pipeline.examples import column, file_of, picture

from forwardpass.errors import InvalidModel, InvalidRows
from forwardpass.pipeline import create_step
from forwardpass.pipeline.image import FORMATS
from forwardpass.types import Array, DType, TensorSpec


def run(step: str, values: Array, **parameters: Any) -> Array:
    apply = create_step({"step": step, **parameters}, {}, "preprocess 1").open(Path())
    return apply({"image": values})["image"]


def decode(data: bytes, **parameters: Any) -> Array:
    image: Array = run("decode_image", column(data), **parameters)[0]
    return image


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    chunks = b""
    for kind, body in ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b""))):
        chunks += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read(format: str) -> None:
    pixels = np.full((6, 9, 3), (200, 100, 50), dtype=np.uint8)
    image = decode(file_of(pixels, format))
    assert image.shape == (6, 9, 3)
    assert np.abs(image.astype(int) - pixels).max() < 12  # JPEG, WebP and GIF lose a little


def test_a_format_that_is_not_listed_is_refused() -> None:
    with pytest.raises(InvalidRows, match="send one of PNG, JPEG"):
        decode(file_of(picture(4, 4, 3), "GIF"), formats=["PNG", "JPEG"])
    with pytest.raises(InvalidRows, match="are no image"):
        decode(file_of(picture(4, 4, 3), "PPM"))


@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 10_000), (8_000, 7_000)])
def test_a_bomb_is_refused_by_its_size_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRows, match=rf"too large|{size[0]}x{size[1]} pixels; at most 50000000"):
        decode(png_header(*size))


def test_the_pixel_limit_is_inclusive() -> None:
    assert decode(file_of(picture(10, 20, 3)), max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(InvalidRows, match="20x10 pixels; at most 199"):
        decode(file_of(picture(10, 20, 3)), max_pixels=199)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_file_that_is_cut_off_is_refused(format: str) -> None:
    data = file_of(picture(64, 64, 3), format)
    with pytest.raises(InvalidRows, match=r"damaged or cut off|are no image"):
        decode(data[: len(data) // 2])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damage_is_refused_or_read_but_never_something_else(data: st.DataObject) -> None:
    file = bytearray(file_of(picture(12, 12, 3), data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    # Pillow warns of odd metadata, which the tests turn into an error
    with contextlib.suppress(InvalidRows, UserWarning):
        assert decode(bytes(file), max_pixels=10_000).dtype == np.uint8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_images_are_turned_as_exif_says(orientation: int, format: str) -> None:
    upright = picture(4, 6, 3)
    back = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_of(np.ascontiguousarray(back[orientation]), format, exif=exif)
    np.testing.assert_array_equal(decode(data), upright)


def test_transparency_shows_the_background() -> None:
    pixels = np.zeros((2, 2, 4), dtype=np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    image = decode(file_of(pixels), background=[1, 2, 3])
    assert image[0, 0].tolist() == [10, 20, 30]
    assert image[1, 1].tolist() == [1, 2, 3]
    assert decode(file_of(pixels), mode="gray")[1, 1] == 255


def test_a_palette_with_a_transparent_colour_shows_the_background() -> None:
    image = decode(file_of(np.zeros((2, 2, 3), dtype=np.uint8), "PNG", mode="P", transparency=0))
    assert image.tolist() == [[[255, 255, 255]] * 2] * 2


def test_sixteen_bits_keep_their_upper_half() -> None:
    pixels = np.array([[0, 256], [0x8000, 0xFFFF]], dtype=np.uint16)
    assert decode(file_of(pixels), mode="gray").tolist() == [[0, 1], [128, 255]]


def test_float_pixels_are_refused() -> None:
    with pytest.raises(InvalidRows, match="32 bits"):
        decode(file_of(np.ones((2, 2), dtype=np.float32), "TIFF"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    data = file_of(np.full((3, 3, 3), 255, dtype=np.uint8), "TIFF" if mode == "CMYK" else "PNG", mode=mode)
    assert decode(data).tolist() == [[[255] * 3] * 3] * 3


def test_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    data = file_of(np.asarray(frames[0]), "GIF", save_all=True, append_images=frames[1:])
    assert decode(data)[0, 0].tolist() == [255, 0, 0]


def test_a_jpeg_is_decoded_no_smaller_than_asked() -> None:
    data = file_of(picture(400, 640, 3), "JPEG")
    assert decode(data, at_least=[150, 100]).shape == (100, 160, 3)
    assert decode(data, at_least=[161, 100]).shape == (200, 320, 3)
    assert decode(data, at_least=[9000, 9000]).shape == (400, 640, 3)


def test_at_least_is_meant_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file_of(picture(400, 640, 3), "JPEG", exif=exif)
    assert decode(data, at_least=[100, 160]).shape == (160, 100, 3)


def test_stretching_is_pillows() -> None:
    pixels = picture(30, 50, 3)
    expected = np.asarray(Image.fromarray(pixels).resize((16, 12), Image.Resampling.BICUBIC))
    resized = run("resize_image", column(pixels), width=16, height=12, interpolation="bicubic")
    np.testing.assert_array_equal(resized[0], expected)


def test_cropping_keeps_the_centre_and_the_proportions() -> None:
    pixels = np.zeros((10, 30), dtype=np.uint8)
    pixels[:, 10:20] = 255
    resized = run("resize_image", column(pixels), width=5, height=5, fit="crop", interpolation="box")
    assert (resized == 255).all()


def test_padding_keeps_everything() -> None:
    pixels = np.full((10, 30), 255, dtype=np.uint8)
    resized = run("resize_image", column(pixels), width=6, height=6, fit="pad", pad_value=7)
    assert resized[0, 2:4].tolist() == [[255] * 6] * 2
    assert (resized[0, :2] == 7).all()
    assert (resized[0, 4:] == 7).all()


def test_a_sliver_is_padded_to_one_pixel_at_least() -> None:
    resized = run("resize_image", column(np.full((1, 500), 255, dtype=np.uint8)), width=9, height=9, fit="pad")
    assert (resized[0, 4] == 255).all()


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_normalising_is_the_plain_formula(layout: str) -> None:
    pixels = np.stack([picture(5, 4, 3), picture(5, 4, 3, seed=1)])
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected = (pixels / 255 - mean) / std
    normal = run("normalise_image", pixels, mean=mean, std=std, layout=layout)
    assert normal.flags.c_contiguous
    np.testing.assert_allclose(normal, expected.transpose(0, 3, 1, 2) if layout == "CHW" else expected, atol=1e-5)


def test_a_pipeline_without_rows_has_the_shape_it_declares() -> None:
    decoded = run("decode_image", column(), mode="gray")
    resized = run("resize_image", decoded, width=4, height=3)
    assert run("normalise_image", resized).shape == (0, 1, 3, 4)


@pytest.mark.parametrize(
    ("step", "parameters", "message"),
    [
        ("resize_image", {"width": 0, "height": 4}, "0x4"),
        ("resize_image", {"width": 4, "height": 4, "pad_value": 256}, "pad_value is 256"),
        ("resize_image", {"width": 4, "height": 4, "fit": "squash"}, "squash"),
        ("decode_image", {"max_pixels": 0}, "max_pixels is 0"),
        ("decode_image", {"background": [0, 0, 300]}, "300"),
        ("decode_image", {"formats": []}, "formats is empty"),
        ("decode_image", {"at_least": [0, 4]}, "at_least"),
        ("normalise_image", {"std": [1, 0, 1]}, "has a zero"),
        ("centre_crop", {"width": -1, "height": 4}, "-1x4"),
    ],
)
def test_parameters_without_sense_are_refused(step: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        create_step({"step": step, **parameters}, {}, "preprocess 1")


@pytest.mark.parametrize(
    ("step", "parameters", "spec", "message"),
    [
        (
            "resize_image",
            {"width": 4, "height": 4},
            TensorSpec("image", DType.BYTES, (None,)),
            r"is BYTES .* decode images first",
        ),
        ("resize_image", {"width": 4, "height": 4}, TensorSpec("image", DType.FP32, (None, 4, 4)), "UINT8"),
        ("normalise_image", {}, TensorSpec("image", DType.UINT8, (None, 4)), "decode images first"),
        ("normalise_image", {"mean": [1, 2]}, TensorSpec("image", DType.UINT8, (None, 4, 4, 3)), "has 3 channels"),
        ("centre_crop", {"width": 9, "height": 4}, TensorSpec("image", DType.UINT8, (None, 8, 8, 3)), "9x4 is larger"),
        ("decode_image", {}, TensorSpec("image", DType.UINT8, (None,)), "works on image files"),
    ],
)
def test_columns_that_are_no_images_are_refused(
    step: str, parameters: dict[str, Any], spec: TensorSpec, message: str
) -> None:
    with pytest.raises(InvalidModel, match=message):
        create_step({"step": step, **parameters}, {}, "preprocess 1").writes({"image": spec})
