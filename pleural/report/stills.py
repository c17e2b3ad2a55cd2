"""The plots of an evaluation as pictures, for a paper or a slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pleural.figures import MODEL_COLOUR
from pleural.report.plots import difference_range, sizes, spread

Row = Mapping[str, Any]


def bland_altman(rows: Sequence[Row], agreement: Mapping[str, Any]) -> Figure:
    """Arguments as of :func:`pleural.report.plots.bland_altman`."""
    figure, axes = _empty("mean of prediction and reference, mL", "prediction minus reference, mL")
    means = [(row["predicted_ml"] + row["reference_ml"]) / 2 for row in rows]
    differences = [row["predicted_ml"] - row["reference_ml"] for row in rows]
    axes.scatter(means, differences, color=MODEL_COLOUR, alpha=0.8, zorder=3)
    axes.axhline(0, color="0.8", lw=0.8)
    for key, label, style in (
        ("bias_ml", "bias", "-"),
        ("upper_ml", "upper limit", "--"),
        ("lower_ml", "lower limit", "--"),
    ):
        if (value := agreement[key]["value"]) is not None:
            axes.axhline(value, color="0.3", lw=1.2, ls=style)
            place = axes.get_yaxis_transform()
            axes.text(
                1.01, value, f"{label}\n{value:.1f} mL", fontsize=8, va="center", transform=place
            )
            _interval(axes, 1.08 * max(means), agreement[key], "0.3")
    axes.set_xlim(left=0)
    axes.set_ylim(difference_range(rows, agreement))
    return figure


def dice_by_size(rows: Sequence[Row], bands: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Arguments as of :func:`pleural.report.plots.dice_by_size`."""
    figure, axes = _empty("volume of the reference, mL", "Dice")
    for place, (name, band) in enumerate(bands.items()):
        own = [row["dice"] for row in rows if row["band"] == name]
        axes.scatter(place + spread(len(own)), own, color="0.5", alpha=0.6, s=18)
        axes.plot(place, band["dice"]["value"], "D", ms=8, color=MODEL_COLOUR)
        _interval(axes, place, band["dice"], MODEL_COLOUR)
    axes.set_xticks(range(len(bands)), [f"{name}\n{sizes(band)}" for name, band in bands.items()])
    axes.set(xlim=(-0.6, len(bands) - 0.4), ylim=(-0.02, 1.02))
    return figure


def _interval(axes: Axes, place: float, estimate: Mapping[str, Any], colour: str) -> None:
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if low is not None:
        axes.errorbar(place, value, [[value - low], [high - value]], color=colour, capsize=4)


def _empty(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
