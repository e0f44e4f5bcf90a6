"""The ink steps: what is found, whatever the size, polarity, light and margins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forwardpass.errors import InvalidModel
from forwardpass.pipeline.ink import FindInk, FitInk
from forwardpass.types import DType, TensorSpec

Image = NDArray[Any]


def sign(scale: int = 10) -> Image:
    """An L of ink: 1 is ink, 5 wide and 8 high, strokes 2 wide."""
    ink = np.zeros((8, 5))
    ink[:, :2] = 1
    ink[6:] = 1
    return np.kron(ink, np.ones((scale, scale)))


def picture(ink: Image, margin: int = 20, paper: float = 230, pen: float = 40) -> Image:
    return np.asarray(paper + (pen - paper) * np.pad(ink, margin), dtype=np.uint8)


def find(*images: Image, **parameters: Any) -> list[Image]:
    column = np.empty(len(images), dtype=object)
    column[:] = [*images]
    return list(FindInk(**parameters).open(Path())({"image": column})["image"])


def fit(*crops: Image, size: int = 16) -> Image:
    column = np.empty(len(crops), dtype=object)
    column[:] = [*crops]
    return FitInk(size=size).open(Path())({"image": column})["image"]


def test_crops_to_the_ink() -> None:
    (crop,) = find(picture(sign()))
    np.testing.assert_allclose(crop, sign(), atol=1e-5)


@pytest.mark.parametrize(("paper", "pen"), [(255, 0), (0, 255), (200, 120), (60, 110)])
def test_polarity_and_strength_make_no_difference(paper: float, pen: float) -> None:
    (crop,) = find(picture(sign(), paper=paper, pen=pen))
    np.testing.assert_allclose(crop, sign(), atol=0.02)


@pytest.mark.parametrize("scale", [1, 3, 25, 90])
@pytest.mark.parametrize("strokes", [1, 5])
def test_size_and_margins_make_little_difference(scale: int, strokes: int) -> None:
    (expected,) = fit(*find(picture(sign(10))))
    (found,) = fit(*find(picture(sign(scale), margin=strokes * 2 * scale)))
    assert np.abs(found - expected).mean() < 0.05


def test_uneven_light_is_no_ink() -> None:
    even = picture(sign(), paper=180, pen=20)
    light = np.linspace(-40, 40, even.shape[1]) + np.linspace(-30, 30, even.shape[0])[:, None]
    (crop,) = find(np.clip(even + light, 0, 255).astype(np.uint8))
    assert crop.shape == sign().shape
    assert np.abs(crop - sign()).mean() < 0.05


def test_a_speck_does_not_widen_the_box() -> None:
    image = picture(sign())
    image[2, 2] = 40
    (crop,) = find(image)
    assert crop.shape == sign().shape


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (257, 259)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_images_of_any_size_hold_no_ink(shape: tuple[int, int], level: int) -> None:
    (crop,) = find(np.full(shape, level, np.uint8))
    assert crop.tolist() == [[0.0]]
    assert not fit(crop).any()


def test_contrast_is_what_parts_ink_from_shadow() -> None:
    faint = picture(sign(), paper=200, pen=180)
    assert find(faint)[0].shape == (1, 1)
    assert find(faint, contrast=0.05)[0].shape == sign().shape


def test_a_picture_without_even_ground_holds_no_ink() -> None:
    chequered = 120 * np.kron(np.indices((6, 6)).sum(axis=0) % 3, np.ones((20, 20), np.int64))
    assert find(chequered.astype(np.uint8))[0].shape == (1, 1)


def test_any_noise_gives_ink_between_0_and_1() -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, random.integers(1, 90, 2)).astype(np.uint8) for _ in range(200)]
    fitted = fit(*find(*images))
    assert fitted.dtype == np.float32
    assert np.isfinite(fitted).all()
    assert fitted.min() >= 0
    assert fitted.max() <= 1 + 1e-5


def test_fit_keeps_proportions_and_centres() -> None:
    (fitted,) = fit(np.ones((32, 8), np.float32))
    columns = fitted.mean(axis=0)
    np.testing.assert_allclose(columns, columns[::-1], atol=1e-6)
    assert columns[6:10].min() > 0.8
    assert columns.sum() == pytest.approx(4, rel=0.1)


def test_fit_of_the_same_size_changes_nothing() -> None:
    crop = np.random.default_rng(0).random((16, 16), np.float32)
    np.testing.assert_allclose(fit(crop)[0], crop, atol=1e-6)


@pytest.mark.parametrize("parameters", [{"contrast": 0.0}, {"contrast": 1.5}, {"floor": 1.0}, {"floor": -0.1}])
def test_senseless_parameters_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidModel, match=rf"find_ink: .*{next(iter(parameters))}"):
        FindInk(**parameters)
    with pytest.raises(InvalidModel, match="fit_ink: size is 0"):
        FitInk(size=0)


def test_colour_images_are_refused() -> None:
    colour = TensorSpec("image", DType.UINT8, (None, None, None, 3))
    with pytest.raises(InvalidModel, match="mode: gray"):
        FindInk().writes({"image": colour})
    with pytest.raises(InvalidModel, match="find_ink"):
        FitInk().writes({"image": TensorSpec("image", DType.UINT8, (None, None, None))})
