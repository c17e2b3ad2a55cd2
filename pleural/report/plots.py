"""Plots to play with: hover over them, zoom into them, switch their parts on and off.

What a name says is shown as it is: plotly would take some of it for HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import chain, cycle
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from pleural.figures import (
    HALVED,
    MODEL_COLOUR,
    READER_COLOURS,
    REFERENCE_COLOUR,
    SHADE,
    TRAINING_COLOUR,
    halved_span,
)
from pleural.summary_text import shown

Row = Mapping[str, Any]
MARGIN_SHARE = 0.25
OTHER_COLOURS = (READER_COLOURS[0], REFERENCE_COLOUR, *READER_COLOURS[1:])
GREY, DARK = "#8a8f98", "#4a5568"
MOST_CASES = 12  # with a curve of their own
LAYOUT = {
    "template": "simple_white",
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#2b2f36"},
    "margin": {"l": 60, "t": 70, "b": 55},
    "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    "hoverlabel": {"align": "left"},
}
CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,  # plotly's own default offers to upload the plot
    "modeBarButtonsToRemove": ["lasso2d", "select2d"],
}


def markup(figure: go.Figure, name: str) -> Markup:
    """HTML for a page that holds plotly itself."""
    figure.update_layout(LAYOUT)
    figure.update_layout(
        height=figure.layout.height or 400, margin={"r": figure.layout.margin.r or 20}
    )
    part = figure.to_html(
        config=CONFIG, include_plotlyjs=False, full_html=False, div_id=f"plot-{name}"
    )
    return Markup(part)


def dice_curve(rows: Sequence[Row], best_epoch: int | None) -> go.Figure:
    """As :func:`pleural.figures.dice_curve`; each validation case can be switched on."""
    figure = go.Figure()
    for column, label, colour in (
        ("train_dice", "training patches (soft Dice)", TRAINING_COLOUR),
        ("val_dice", "validation scans (mean Dice)", MODEL_COLOUR),
    ):
        figure.add_trace(_curve(rows, column, label, line={"color": colour, "width": 2}))
    cases = [key for row in rows[:1] for key in row if key.startswith("val_dice_")]
    for key in cases if len(cases) <= MOST_CASES else ():
        line = {"width": 1, "dash": "dot"}
        label = _text(key.removeprefix("val_dice_"))
        figure.add_trace(_curve(rows, key, label, line=line, visible="legendonly"))
    if (span := halved_span(rows)) is not None:
        told = {"annotation_text": HALVED, "annotation_position": "top left"}
        figure.add_vrect(*span, fillcolor=SHADE, opacity=1, line_width=0, layer="below", **told)
    best = next((row for row in rows if row["epoch"] == best_epoch), None)
    if best is not None and best.get("val_dice") is not None:
        figure.add_vline(best["epoch"], line={"color": GREY, "width": 1, "dash": "dash"}, opacity=1)
        star = {"symbol": "star", "size": 15, "color": MODEL_COLOUR}
        label = f"best epoch {best['epoch']:.0f}: {best['val_dice']:.3f}"
        figure.add_scatter(
            x=[best["epoch"]], y=[best["val_dice"]], mode="markers", marker=star, name=label
        )
    figure.update_layout(hovermode="x unified")
    # No more ticks than epochs, or the same number would stand at several.
    figure.update_xaxes(title="epoch", tickformat="d", nticks=min(len(rows), 12))
    figure.update_yaxes(title="Dice", range=[0, 1])
    return figure


def bland_altman(rows: Sequence[Row], agreement: Mapping[str, Any]) -> go.Figure:
    """Difference against mean of both volumes, with bias, limits of agreement and intervals.

    Args:
        rows: the cases with effusion: ``name``, ``predicted_ml``, ``reference_ml``.
        agreement: of them, see :class:`pleural.statistics.BlandAltman`.
    """
    figure = go.Figure()
    means = [(row["predicted_ml"] + row["reference_ml"]) / 2 for row in rows]
    figure.add_scatter(
        x=means,
        y=[row["predicted_ml"] - row["reference_ml"] for row in rows],
        text=_names(rows),
        mode="markers",
        marker={"size": 9, "color": MODEL_COLOUR, "opacity": 0.8},
        hovertemplate="%{text}<br>mean %{x:.1f} mL<br>difference %{y:.1f} mL<extra></extra>",
        showlegend=False,
    )
    figure.add_hline(0, line={"color": "#c9ccd1", "width": 1}, opacity=1)
    for key, label, dash in (
        ("bias_ml", "bias", "solid"),
        ("upper_ml", "upper limit", "dash"),
        ("lower_ml", "lower limit", "dash"),
    ):
        estimate = agreement[key]
        if estimate["value"] is None:
            continue
        text = f"{label}<br>{estimate['value']:.1f} mL"
        line = {"color": DARK, "width": 1.5, "dash": dash}
        told = {"annotation_text": text, "annotation_position": "right"}
        figure.add_hline(estimate["value"], line=line, opacity=1, **told)
        figure.add_trace(_interval(1.08 * max(means), estimate, label, DARK))
    figure.update_xaxes(title="mean of prediction and reference, mL", rangemode="tozero")
    shown = difference_range(rows, agreement)
    figure.update_yaxes(title="prediction minus reference, mL", zeroline=False, range=shown)
    figure.update_layout(margin={"r": 100})
    return figure


def dice_by_size(rows: Sequence[Row], bands: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """Each case, and the mean of each band of size with its interval and n.

    Args:
        rows: the cases with effusion: ``name``, ``band``, ``dice``, ``reference_ml``.
        bands: by name, the smallest first: ``n_cases`` and ``dice``, an estimate.
    """
    figure = go.Figure()
    for place, (size, band) in enumerate(bands.items()):
        own = [row for row in rows if row["band"] == size]
        figure.add_scatter(
            x=place + spread(len(own)),
            y=[row["dice"] for row in own],
            text=_names(own),
            customdata=[row["reference_ml"] for row in own],
            mode="markers",
            marker={"size": 8, "color": GREY, "opacity": 0.6},
            hovertemplate="%{text}<br>%{customdata:.1f} mL<br>Dice %{y:.3f}<extra></extra>",
            name="case",
            showlegend=place == 0,
        )
        diamond = {"symbol": "diamond", "size": 13}
        name = "mean, 95 % interval"
        figure.add_trace(
            _interval(
                place,
                band["dice"],
                "mean Dice",
                MODEL_COLOUR,
                marker=diamond,
                name=name,
                showlegend=place == 0,
            )
        )
    figure.update_xaxes(
        title="volume of the reference, mL",
        tickvals=list(range(len(bands))),
        ticktext=[f"{_text(name)}<br>{sizes(band)}" for name, band in bands.items()],
        range=[-0.6, len(bands) - 0.4],
    )
    figure.update_yaxes(title="Dice", range=[-0.02, 1.02])
    return figure


def dice_by_reader(rows: Mapping[str, Sequence[Row]]) -> go.Figure:
    """A line a case, the model's best at the top; on it a point for each who marked the case.

    Args:
        rows: by reader, the model first: ``name``, ``dice``; the cases with effusion.
    """
    (_, own), *others = rows.items()
    read = {row["name"] for _, other in others for row in other}
    order = [row["name"] for row in sorted(own, key=lambda row: float(row["dice"]))]
    places = {name: place for place, name in enumerate(name for name in order if name in read)}
    figure = go.Figure()
    colours = chain([MODEL_COLOUR], cycle(OTHER_COLOURS))
    marked = zip(rows.items(), colours, strict=False)  # there is no end of colours
    for number, ((reader, theirs), colour) in enumerate(marked):
        both = [row for row in theirs if row["name"] in places]
        figure.add_scatter(
            x=[row["dice"] for row in both],
            y=[places[row["name"]] for row in both],
            text=_names(both),
            mode="markers",
            marker={"size": 10, "color": colour, "symbol": number % 6},
            hovertemplate="%{text}<br>Dice %{x:.3f}",
            name=_text(reader),
        )
    ticks = [_text(name) for name in places]
    figure.update_yaxes(tickvals=list(places.values()), ticktext=ticks, showgrid=True)
    figure.update_yaxes(range=[-0.7, len(places) - 0.3], automargin=True)
    figure.update_xaxes(title="Dice with the reference", range=[-0.02, 1.02])
    figure.update_layout(height=170 + 26 * len(places))
    return figure


def difference_range(rows: Sequence[Row], agreement: Mapping[str, Any]) -> tuple[float, float]:
    """Of the axis of a Bland–Altman plot: all cases and limits, with a margin.

    Intervals may reach beyond: those of a few cases would shrink all else to a line.
    """
    limits = [agreement[key]["value"] for key in ("bias_ml", "upper_ml", "lower_ml")]
    differences = [row["predicted_ml"] - row["reference_ml"] for row in rows]
    shown = [0.0, *differences, *(value for value in limits if value is not None)]
    margin = MARGIN_SHARE * (max(shown) - min(shown) or 1.0)
    return min(shown) - margin, max(shown) + margin


def spread(n: int) -> np.ndarray:
    """Side by side around 0, so that points do not hide each other.

    >>> spread(3).tolist(), spread(1).tolist()
    ([-0.15, 0.0, 0.15], [0.0])
    """
    return np.linspace(-0.15, 0.15, n) if n > 1 else np.zeros(n)


def sizes(band: Mapping[str, Any]) -> str:
    """How many cases and patients a band's estimates come from."""
    n_cases, n_patients = band["n_cases"], band["dice"]["n"]
    return f"n = {n_patients}" if n_cases == n_patients else f"n = {n_patients}, {n_cases} cases"


def _interval(
    place: float, estimate: Mapping[str, Any], label: str, colour: str, **style: Any
) -> go.Scatter:
    """A bar from one end of the interval to the other; nothing where there is no interval."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    bars = None
    if low is not None:
        bars = {"array": [high - value], "arrayminus": [value - low], "width": 5, "color": colour}
    return go.Scatter(
        x=[place],
        y=[value],
        error_y=bars,
        mode="markers",
        marker={"symbol": "line-ew", "size": 1, "color": colour} | style.pop("marker", {}),
        hovertemplate=f"{label} {shown(estimate)}<extra></extra>",
        **({"showlegend": False} | style),
    )


def _curve(rows: Sequence[Row], column: str, label: str, **style: Any) -> go.Scatter:
    points = [(row["epoch"], row[column]) for row in rows if row.get(column) is not None]
    epochs, values = zip(*points, strict=True) if points else ((), ())
    mode = "lines+markers" if len(points) < 40 else "lines"
    hover = "%{y:.3f}"
    return go.Scatter(x=epochs, y=values, mode=mode, name=label, hovertemplate=hover, **style)


def _names(rows: Sequence[Row]) -> list[str]:
    return [_text(row["name"]) for row in rows]


def _text(name: str) -> str:
    """So that plotly shows it as it is; quotes have no meaning there."""
    return escape(name, quote=False)
