"""Pictures: Dice against epoch, slices with contours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pleural.body import body_box
from pleural.errors import InputError
from pleural.volume import Volume

MODEL_COLOUR = "#d95f02"
REFERENCE_COLOUR = "#1b9e77"
TRAINING_COLOUR = "#7570b3"
READER_COLOURS = (TRAINING_COLOUR, "#e7298a", "#66a61e", "#e6ab02")  # in turn
SOFT_TISSUE_HU = (-160, 240)
HALVED, SHADE = "learning at half the resolution", "#f0f0f0"
N_PREVIEW = 6
VIEW_MARGIN_MM = 5.0


class Slice(NamedTuple):
    """One axial slice of a prepared case: arrays ``(X, Y)``, RAS+, the image in [-1, 1]."""

    title: str
    image: np.ndarray
    prediction: np.ndarray
    reference: np.ndarray


def dice_curve(rows: Sequence[Mapping[str, Any]], best_epoch: int | None) -> Figure:
    """Dice (y) against epoch (x), training and validation, the best epoch marked.

    ``rows`` hold ``epoch``, ``train_dice`` and, where an epoch was validated, ``val_dice``; those
    that are ``halved`` are shaded.
    """
    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    if (span := halved_span(rows)) is not None:
        axes.axvspan(*span, color=SHADE, label=HALVED)
    for column, label, colour in (
        ("train_dice", "training patches (soft Dice)", TRAINING_COLOUR),
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
        axes.legend(loc="lower right", edgecolor="none")
    return figure


def halved_span(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Where the epochs begin and end that learnt from halved patches, whose Dice is low for it."""
    epochs = [row["epoch"] for row in rows if row.get("halved")]
    return (epochs[0] - 0.5, epochs[-1] + 0.5) if epochs else None


def contours(slices: Sequence[Slice]) -> Figure:
    """Slices side by side as a radiologist looks at them: the patient's right on the left."""
    columns = min(4, len(slices))
    lines = -(-len(slices) // columns)
    figure = Figure(figsize=(4.2 * columns, 4 * lines), dpi=110, layout="constrained")
    for index, (title, image, prediction, reference) in enumerate(slices):
        axes = figure.add_subplot(lines, columns, index + 1)
        masks = {REFERENCE_COLOUR: reference, MODEL_COLOUR: prediction}
        _draw(axes, image, masks, _tissue_window(image))
        axes.set_title(title, fontsize=9, parse_math=False)  # a name may hold a $
    figure.suptitle(
        "reference green, model orange\n(as prepared, before unsure parts are left out)", fontsize=9
    )
    return figure


def preview(scan: Volume, mask: Volume, title: str) -> Figure:
    """Six axial slices through the effusion, evenly spaced (through the scan where there is none).

    ``scan`` is in HU, ``mask`` on its grid; slices are counted from the feet, the lowest is 1.
    """
    scan, mask = scan.reoriented(), mask.reoriented()
    with_fluid = np.flatnonzero(mask.array.any(axis=(0, 1)))
    low, high = (with_fluid[0], with_fluid[-1]) if with_fluid.size else (0, scan.shape[2] - 1)
    shown = np.unique(np.linspace(low, high, N_PREVIEW).round().astype(int))
    x, y = body_view(scan, shown.tolist())
    heights_mm, (x_mm, y_mm, _) = scan.heights_mm(), scan.spacing_mm
    height = 7.5 * (y.stop - y.start) * y_mm / ((x.stop - x.start) * x_mm) + 1.2
    figure = Figure(figsize=(11, height), dpi=100, layout="constrained", facecolor="black")
    for index, z in enumerate(shown[::-1]):  # from the head down
        axes = figure.add_subplot(2, N_PREVIEW // 2, index + 1)
        contour = {MODEL_COLOUR: mask.array[x, y, z]}
        _draw(axes, scan.array[x, y, z], contour, SOFT_TISSUE_HU, aspect=y_mm / x_mm)
        name = f"slice {z + 1} of {scan.shape[2]} from the feet, z {heights_mm[z]:.1f} mm"
        axes.set_title(name, fontsize=9, color="0.8")
    figure.suptitle(title, fontsize=11, color="white", parse_math=False)
    return figure


def body_view(scan: Volume, slices: Sequence[int]) -> tuple[slice, slice]:
    """What these slices of a RAS+ scan show of the patient, without table and air, in x and y.

    Everything where there is no body.
    """
    together = scan.array[..., slices].max(axis=2, keepdims=True)
    try:
        x, y, _ = body_box(Volume(together, scan.affine), VIEW_MARGIN_MM)
    except InputError:
        return slice(0, scan.shape[0]), slice(0, scan.shape[1])
    return x, y


def as_seen(axial: np.ndarray) -> np.ndarray:
    """A slice ``(X, Y)``, RAS+, in rows and columns as a radiologist looks at it.

    Anterior is at the top, the patient's right at the left.
    """
    return axial.T[::-1, ::-1]


def _draw(
    axes: Axes,
    image: np.ndarray,
    masks: Mapping[str, np.ndarray],
    window: tuple[float, float],
    aspect: float = 1.0,
) -> None:
    """An axial slice ``(X, Y)``, RAS+, with contours by colour."""
    axes.imshow(as_seen(image), cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect)
    for colour, mask in masks.items():
        if mask.any():
            axes.contour(as_seen(mask), [0.5], colors=[colour], linewidths=1.2)
    for side, x in (("R", 0.02), ("L", 0.98)):
        axes.text(x, 0.5, side, color="white", transform=axes.transAxes, ha="center", va="center")
    axes.set_axis_off()


def _tissue_window(image: np.ndarray) -> tuple[float, float]:
    """From fat to bone, whatever window of HU the image was made with."""
    tissue = image[image >= image.min() + np.ptp(image) / 4]
    low, high = np.percentile(tissue, [1, 99])
    return float(low), float(high)
