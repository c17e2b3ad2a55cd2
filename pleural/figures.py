"""Pictures of a training: Dice against epoch, and validation slices with both contours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

MODEL_COLOUR = "#d95f02"
REFERENCE_COLOUR = "#1b9e77"


class Slice(NamedTuple):
    """One axial slice of a prepared case: arrays ``(X, Y)``, RAS+, the image in [-1, 1]."""

    title: str
    image: np.ndarray
    prediction: np.ndarray
    reference: np.ndarray


def dice_curve(rows: Sequence[Mapping[str, Any]], best_epoch: int | None) -> Figure:
    """Dice (y) against epoch (x), training and validation, the best epoch marked.

    ``rows`` hold ``epoch``, ``train_dice`` and, where an epoch was validated, ``val_dice``.
    """
    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for column, label, colour in (
        ("train_dice", "training patches (soft Dice)", "#7570b3"),
        ("val_dice", "validation scans (mean Dice)", MODEL_COLOUR),
    ):
        points = [(row["epoch"], row[column]) for row in rows if row.get(column) is not None]
        if points:
            style = "o-" if len(points) < 40 else "-"
            axes.plot(*zip(*points, strict=True), style, ms=3, lw=1.5, label=label, color=colour)
    best = next((row for row in rows if row["epoch"] == best_epoch), None)
    if best is not None and best.get("val_dice") is not None:
        axes.axvline(best["epoch"], color="0.6", lw=1, ls="--")
        label = f"best epoch {best['epoch']}: {best['val_dice']:.3f}"
        axes.plot(best["epoch"], best["val_dice"], "*", ms=14, color=MODEL_COLOUR, label=label)
    axes.set(xlabel="epoch", ylabel="Dice", ylim=(0, 1), title="Dice against epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", frameon=False)
    return figure


def contours(slices: Sequence[Slice]) -> Figure:
    """Slices side by side as a radiologist looks at them: the patient's right on the left."""
    columns = min(4, len(slices))
    lines = -(-len(slices) // columns)
    figure = Figure(figsize=(4.2 * columns, 4 * lines), dpi=110, layout="constrained")
    for index, (title, image, prediction, reference) in enumerate(slices):
        axes = figure.add_subplot(lines, columns, index + 1)
        # Rows are y with anterior at the top, columns are x with the patient's right at the left.
        low, high = _tissue_window(image)
        axes.imshow(image.T[::-1, ::-1], cmap="gray", vmin=low, vmax=high)
        for mask, colour in ((reference, REFERENCE_COLOUR), (prediction, MODEL_COLOUR)):
            if mask.any():
                axes.contour(mask.T[::-1, ::-1], [0.5], colors=[colour], linewidths=1.2)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.suptitle("reference green, model orange", fontsize=9)
    return figure


def _tissue_window(image: np.ndarray) -> tuple[float, float]:
    """From fat to bone, whatever window of HU the image was made with."""
    tissue = image[image >= image.min() + np.ptp(image) / 4]
    low, high = np.percentile(tissue, [1, 99])
    return float(low), float(high)
