"""Pictures for the `digits` model: scans as callers might send them, and what is no digit.

A *sign* is ink from 0 to 1 without a ground: a scan, a letter, a scribble. `draw` puts a sign on
paper: size, slant, pen, polarity, light, margins. Training and evaluation draw from here with
other scans, letters, photographs and seeds; nothing in here knows the model.
"""

from __future__ import annotations

import io
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from examples.training import digits_strokes as strokes
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.datasets import load_digits, load_sample_image

Pixels = NDArray[Any]
Random = np.random.Generator

TRAINED_SCANS = 1347  # scans lie in writers' order: those after it are of writers never trained on
EVALUATION_SEED = 20
SIMILAR = "OoDQIlijSsZzBbGgq|"  # signs that a reader takes for a digit when they stand alone
DISSIMILAR = "".join(letter for letter in string.ascii_letters if letter not in SIMILAR)
SIGNS = DISSIMILAR + "#$%&*+=?@<>^~{}"
KERNELS = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


def scans() -> tuple[Pixels, Pixels]:
    """scikit-learn's digits: ink from 0 to 1 [1797, 8, 8], and the digits [1797]."""
    data = load_digits()
    return data.images.astype(np.float32) / 16.0, data.target


def png(picture: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def draw(sign: Pixels, random: Random, bend: float = 1.0) -> Pixels:
    """A gray picture of a sign; ``bend`` 0 leaves its shape alone."""
    size = int(random.integers(10, 72))
    ink = _bend(sign, size, random, bend)
    if bend and random.random() < 0.7:
        ink = np.clip((ink - random.uniform(0.3, 0.65)) * random.uniform(1.0, 6.0) + 0.5, 0, 1)  # another pen
    margins = random.integers(0, 1 + size // 2, 4)
    ink = np.pad(ink, (tuple(margins[:2]), tuple(margins[2:])))
    return _on_paper(ink, random)


def _bend(sign: Pixels, size: int, random: Random, bend: float) -> Pixels:
    height, width = sign.shape
    target = (max(4, round(size * width / height * np.exp(bend * random.normal(0, 0.08)))), size)
    image = Image.fromarray(np.uint8(np.clip(sign, 0, 1) * 255))
    if not bend:
        return np.asarray(image.resize(target, random.choice(KERNELS)), np.float32) / 255
    pad = max(1, round(0.15 * height))
    image = Image.fromarray(np.pad(np.asarray(image), pad))
    middle = np.array([image.width, image.height]) / 2
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * middle
    angle, shear = bend * random.normal(0, 0.12), bend * random.normal(0, 0.12)
    turn = np.array([[np.cos(angle), np.sin(angle) + shear], [-np.sin(angle), np.cos(angle)]])
    corners = corners @ turn + middle + bend * random.normal(0, 0.035 * height, (4, 2))
    kernel = random.choice(KERNELS, p=[0.1, 0.4, 0.5])
    quad = image.transform(target, Image.Transform.QUAD, tuple(corners.ravel()), kernel)
    return np.asarray(quad, np.float32) / 255


def _on_paper(ink: Pixels, random: Random) -> Pixels:
    paper, pen = random.uniform(150, 255), random.uniform(0, 90)
    if random.random() < 0.5:
        paper, pen = 255 - paper, 255 - pen
    down, across = np.linspace(-1, 1, ink.shape[0])[:, None], np.linspace(-1, 1, ink.shape[1])
    light = random.uniform(0, 20) * (down * random.uniform(-1, 1) + across * random.uniform(-1, 1))
    grain = random.normal(0, random.uniform(0, 6), ink.shape)
    return _gray(paper + (pen - paper) * ink + light + grain)


def _gray(values: Pixels) -> Pixels:
    return np.clip(values, 0, 255).astype(np.uint8)


def letter(text: str, font: Any, random: Random, coarse: float = 0.5) -> Pixels:
    """A letter as a sign, cropped; with chance ``coarse`` reduced to 8 rows, as the scans are."""
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    image = Image.new("L", (right + 4, bottom + 4))
    ImageDraw.Draw(image).text((2, 2), text, fill=255, font=font)
    image = image.crop(image.getbbox() or (left, top, right, bottom))
    if random.random() < coarse:
        image = image.resize((max(2, round(8 * image.width / image.height)), 8), Image.Resampling.BOX)
    return np.asarray(image, np.float32) / 255


def scribble(random: Random) -> Pixels:
    """Strokes at random, or a filled shape; none so narrow and upright that it may be a 1."""
    while True:
        sign = _any_scribble(random)
        if sign.shape[1] > 0.4 * sign.shape[0]:
            return sign


def _any_scribble(random: Random) -> Pixels:
    image = Image.new("L", (40, 40))
    pen = ImageDraw.Draw(image)
    points = [tuple(point) for point in random.integers(3, 37, (12, 2)).tolist()]
    kind = random.integers(4)
    if kind == 0:
        pen.polygon(points[: int(random.integers(3, 6))], fill=255)
    elif kind == 1:
        (x1, y1), (x2, y2) = points[:2]
        box = (min(x1, x2), min(y1, y2), max(x1, x2) + 6, max(y1, y2) + 6)
        (pen.ellipse if random.random() < 0.5 else pen.rectangle)(box, fill=255)
    else:
        for start in range(0, 3 * int(random.integers(2, 5)), 3):
            pen.line(points[start : start + 3], fill=255, width=int(random.integers(1, 6)), joint="curve")
    return np.asarray(image.crop(image.getbbox()).filter(ImageFilter.GaussianBlur(0.6)), np.float32) / 255


def cut_shape(random: Random) -> Pixels:
    """Part of a round thing that is larger than the picture, plain or with a grain."""
    image = Image.new("L", (40, 40))
    x, y = random.uniform(-15, 55, 2)
    wide, high = random.uniform(12, 45, 2)
    ImageDraw.Draw(image).ellipse((x - wide, y - high, x + wide, y + high), fill=255)
    grain = _smooth(random.integers(0, 256, (40, 40)), random) / 255
    ink = np.asarray(image, np.float32) / 255
    return ink * (1 - random.uniform(0, 0.9) * grain)


def photo_patches(name: str, count: int, random: Random) -> Iterator[Pixels]:
    """Gray patches of one of scikit-learn's photographs (427 by 640), 16 to 400 pixels a side."""
    photo = np.asarray(Image.fromarray(load_sample_image(name)).convert("L"))
    for _ in range(count):
        high, wide = np.exp(random.uniform(np.log(16), np.log(400), 2)).astype(int)
        y, x = random.integers(photo.shape[0] - high), random.integers(photo.shape[1] - wide)
        yield photo[y : y + high, x : x + wide]


def noise(random: Random) -> Pixels:
    """Uniform, Gaussian, salt-and-pepper or smooth noise, or a (nearly) flat picture."""
    shape = tuple(random.integers(8, 120, 2))
    kinds: list[Callable[[], Pixels]] = [
        lambda: random.integers(0, 256, shape),
        lambda: random.normal(random.uniform(60, 200), random.uniform(10, 60), shape),
        lambda: np.where(random.random(shape) < random.uniform(0.01, 0.3), random.integers(0, 2, shape) * 255, 128),
        lambda: _smooth(random.integers(0, 256, shape), random),
        lambda: np.full(shape, random.integers(0, 256)) + random.normal(0, random.uniform(0, 4), shape),
    ]
    return _gray(kinds[random.integers(len(kinds))]())


def _smooth(picture: Pixels, random: Random) -> Pixels:
    blurred = Image.fromarray(np.uint8(picture)).filter(ImageFilter.GaussianBlur(random.uniform(1, 8)))
    values = np.asarray(blurred, np.float32)
    stretched: Pixels = (values - values.min()) * 255 / max(1.0, float(np.ptp(values)))
    return stretched


def soften(picture: Pixels, random: Random) -> Pixels:
    """A picture out of focus, at full contrast."""
    return _gray(_smooth(picture, random))


def outline_font(size: int = 40) -> Any:
    """Pillow's own TrueType font."""
    return ImageFont.load_default(size)


def bitmap_font() -> Any:
    """Pillow's older bitmap font: another design, letters about 6 by 9 pixels."""
    return ImageFont.load_default_imagefont()


def drawings(forms: Mapping[str, list[str]], each: int, random: Random) -> tuple[list[Pixels], list[str]]:
    """``each`` drawings of every form, and the sign that each is of."""
    signs = [(sign, form) for sign, ways in forms.items() for form in ways for _ in range(each)]
    return [strokes.drawing(form, random) for _, form in signs], [sign for sign, _ in signs]


def evaluation_pictures() -> dict[str, tuple[list[bytes], list[str]]]:
    """PNG images that no training saw, with their labels: scans of other writers, another
    photograph, another font, other ways of drawing, other seeds."""
    random = np.random.default_rng(EVALUATION_SEED)
    ink, digits = scans()
    held_out = [draw(sign, random, bend=0) for sign in ink[TRAINED_SCANS:]]
    printed = "0123456789" * 20
    photo = np.asarray(Image.fromarray(load_sample_image("flower.jpg")).convert("L"))
    sets = {
        "digits": (held_out, [str(digit) for digit in digits[TRAINED_SCANS:]]),
        "printed_digits": (_letters(printed, bitmap_font(), random), list(printed)),
        "photographs": ([photo, *photo_patches("flower.jpg", 600, random)], None),
        "noise": ([noise(random) for _ in range(400)], None),
        "letters": (_letters(DISSIMILAR * 6, bitmap_font(), random), None),
        "similar_letters": (_letters(SIMILAR * 6, bitmap_font(), random), None),
        "drawn_digits": drawings(strokes.HELD_OUT_DIGITS, 20, np.random.default_rng(21)),
        "drawn_others": (drawings(strokes.HELD_OUT_OTHERS, 20, np.random.default_rng(22))[0], None),
    }
    return {
        name: ([png(picture) for picture in pictures], labels or ["unknown"] * len(pictures))
        for name, (pictures, labels) in sets.items()
    }


def _letters(text: str, font: Any, random: Random) -> list[Pixels]:
    return [draw(letter(item, font, random, coarse=0), random, bend=0) for item in text]


def evaluate(labels_of: Callable[[list[bytes]], list[str]]) -> dict[str, float]:
    """The figures of the model card, from a function that labels images."""
    found = {name: (labels_of(images), labels) for name, (images, labels) in evaluation_pictures().items()}
    share = {name: sum(a == b for a, b in zip(*pair, strict=True)) / len(pair[0]) for name, pair in found.items()}
    rejected = {name: pair[0].count("unknown") / len(pair[0]) for name, pair in found.items()}
    figures = {"accuracy": share["digits"], "false_rejection": rejected["digits"]}
    figures |= {"printed_accuracy": share["printed_digits"], "printed_false_rejection": rejected["printed_digits"]}
    figures |= {"drawn_accuracy": share["drawn_digits"], "drawn_false_rejection": rejected["drawn_digits"]}
    for name in ("photographs", "noise", "letters", "similar_letters", "drawn_others"):
        figures[f"false_acceptance_{name}"] = 1 - rejected[name]
    return {name: round(figure, 4) for name, figure in figures.items()}
