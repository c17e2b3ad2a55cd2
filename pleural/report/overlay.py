"""Pictures of slices with outlines, to be seen at once: JPEG, small enough for a page of many."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from pleural.figures import MODEL_COLOUR, REFERENCE_COLOUR, SOFT_TISSUE_HU, as_seen
from pleural.report.slices import PREDICTION, REFERENCE, Slices, outlines
from pleural.volume import Volume

N_PICTURES = 3
WIDTH_PX = 480
DRAWN_LARGER = 2  # lines are drawn on this many times the width, then shrunk: no jagged edges
LINE_PX = 2.0
COLOURS = {REFERENCE: REFERENCE_COLOUR, PREDICTION: MODEL_COLOUR}  # the model's on top


@dataclass(frozen=True)
class Picture:
    """``source`` is what an ``img`` shows: the picture itself, as a data URL."""

    source: str
    height_mm: float
    name: str


def pictures(slices: Slices) -> list[Picture]:
    """Three slices from the head down, the most interesting of each third of what is marked."""
    heights = slices.scan.heights_mm()
    return [
        Picture(data_url(_jpeg(_drawn(slices, z)), "jpeg"), float(heights[z]), slices.named(z))
        for z in chosen(slices.interest, _marked(slices))
    ]


def chosen(interest: np.ndarray, marked: np.ndarray) -> list[int]:
    """Of each third of the range that is ``marked`` the slice of most ``interest``, highest first.

    A third without any gives its middle; nothing marked: thirds of the whole scan.
    """
    found = np.flatnonzero(marked)
    low, high = (found[0], found[-1]) if found.size else (0, len(marked) - 1)
    thirds = np.array_split(np.arange(low, high + 1), N_PICTURES)
    return [
        int(third[interest[third].argmax()] if interest[third].any() else third[len(third) // 2])
        for third in reversed(thirds)
        if third.size
    ]


def data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def _marked(slices: Slices) -> np.ndarray:
    masks: Mapping[str, Any] = slices.masks
    both = [masks[who].array.any(axis=(0, 1)) for who in COLOURS if who in masks]
    return np.any(both, axis=0) if both else np.zeros(slices.scan.shape[2], bool)


def _drawn(slices: Slices, z: int) -> Image.Image:
    x_mm, y_mm, _ = slices.scan.spacing_mm
    low, high = SOFT_TISSUE_HU
    hu = as_seen(slices.scan.array[..., z]).astype(np.float32)
    grey = ((hu - low) / (high - low)).clip(0, 1) * 255
    rows, columns = grey.shape
    size = WIDTH_PX, max(1, round(WIDTH_PX * rows * y_mm / (columns * x_mm)))
    larger = size[0] * DRAWN_LARGER, size[1] * DRAWN_LARGER
    image = Image.fromarray(grey.astype(np.uint8)).resize(larger, Image.Resampling.BICUBIC)
    image = image.convert("RGB")
    for who, colour in COLOURS.items():
        if who in slices.masks:
            _outline(image, slices.masks[who], z, colour)
    return image.resize(size, Image.Resampling.LANCZOS)


def _outline(image: Image.Image, mask: Volume, z: int, colour: str) -> None:
    columns, rows, _ = mask.shape
    x_mm, y_mm, _ = mask.spacing_mm
    pencil = ImageDraw.Draw(image)
    for line in outlines(mask.array[..., z], (x_mm, y_mm)):
        from_right = (columns - 0.5 - line[:, 0] / x_mm) * image.width / columns
        from_top = (rows - 0.5 - line[:, 1] / y_mm) * image.height / rows
        points = np.stack([from_right, from_top], axis=1).ravel().tolist()
        pencil.line(points, colour, round(LINE_PX * DRAWN_LARGER), "curve")


def _jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=85, subsampling=0, optimize=True)  # colours as sharp as greys
    return file.getvalue()
