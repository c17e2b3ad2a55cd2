"""What an audit shows: a picture of each case, and a page with all of them, worst first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill
from typing import Any
from urllib.parse import quote

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pleural.audit.inspection import Inspection
from pleural.audit.suspicions import Suspicion, Voxel
from pleural.figures import SOFT_TISSUE_HU, as_seen, body_view

CONTOUR_COLOUR, ARROW_COLOUR = "#ffd92f", "#66c2ff"
MOST_SLICES = 3
PANEL_INCHES = 5.0
EXPLAINED = """\
A suspicion is a reason to look, not a verdict. The number before it is its weight (8: cannot be
used, 4: wrong as a whole, 2: wrong in part, 1 or less: a detail, 0: a note; up to three times as
much where a limit is far exceeded); a case's score is their sum. Slices are counted from the feet,
the lowest is 1. Pictures show the patient's right on the left, from -160 to 240 HU.
"""


def picture(seen: Inspection) -> Figure:
    """The slices in which the worst suspicions lie, with the mask's contour, up to three.

    An arrow points to each place. Without a suspicion that has one: the slice with most mask, or
    the middle one.
    """
    assert seen.scan is not None, "without a scan there is nothing to show"
    shown = _shown(seen)
    x, y = body_view(seen.scan, [*shown])
    x_mm, y_mm, _ = seen.scan.spacing_mm
    width = PANEL_INCHES * max(2, len(shown))  # a single slice is shown larger
    height = width / len(shown) * (y.stop - y.start) * y_mm / ((x.stop - x.start) * x_mm)
    captions = [_caption(seen, of, width / len(shown)) for of in shown.values()]
    lines = max(caption.count("\n") for caption in captions)
    size = (width, height + 1.1 + 0.15 * lines)
    figure = Figure(figsize=size, dpi=110, layout="constrained", facecolor="black")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, z, caption in zip(panels, shown, captions, strict=True):
        _draw_slice(axes, seen, (x, y, z))
        for suspicion in shown[z]:
            if suspicion.place:
                _point(axes, suspicion.place, (x, y))
        axes.set_xlabel(caption, fontsize=9, color="0.8")
    title = seen.ranked[0].sentence if seen.score else "nothing suspicious"
    text = fill(f"{seen.case.name}: {title}", round(10 * width))
    figure.suptitle(text, fontsize=12, color="white", parse_math=False)
    return figure


def _caption(seen: Inspection, suspicions: Sequence[Suspicion], inches: float) -> str:
    """What else a slice shows; the worst of all suspicions is in the title."""
    others = [one.sentence for one in suspicions if one is not seen.ranked[0]]
    return fill("; ".join(others), round(12 * inches))


def _shown(seen: Inspection) -> dict[int, list[Suspicion]]:
    """Slices, the one with the worst suspicion first, and what each shows."""
    assert seen.scan is not None
    slices: dict[int, list[Suspicion]] = {}
    for suspicion in seen.ranked:
        if suspicion.place:
            slices.setdefault(suspicion.place[2], []).append(suspicion)
    if slices:
        return dict([*slices.items()][:MOST_SLICES])
    if seen.mask is None:
        return {seen.scan.shape[2] // 2: []}
    return {int(seen.mask.sum(axis=(0, 1)).argmax()): []}


def _draw_slice(axes: Axes, seen: Inspection, view: tuple[slice, slice, int]) -> None:
    assert seen.scan is not None
    x_mm, y_mm, _ = seen.scan.spacing_mm
    low, high = SOFT_TISSUE_HU
    hu = as_seen(seen.scan.array[view])
    axes.imshow(hu, cmap="gray", vmin=low, vmax=high, aspect=y_mm / x_mm)
    if seen.mask is not None and seen.mask[view].any():
        contour = as_seen(seen.mask[view])
        axes.contour(contour, [0.5], colors=[CONTOUR_COLOUR], linewidths=0.8)
    title = f"slice {view[2] + 1} of {seen.scan.shape[2]}"
    axes.set_title(title, fontsize=10, color="0.8")
    for across, side in ((0.02, "R"), (0.98, "L")):
        axes.text(across, 0.5, side, transform=axes.transAxes, color="0.7", ha="center")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _point(axes: Axes, place: Voxel, view: tuple[slice, slice]) -> None:
    """An arrow to a voxel, from the side of the picture's middle."""
    column, row = view[0].stop - 1 - place[0], view[1].stop - 1 - place[1]
    upwards = row < (view[1].stop - view[1].start) / 2
    axes.annotate(
        "",
        (column, row),
        (0, -30 if upwards else 30),
        textcoords="offset points",
        arrowprops={"arrowstyle": "-|>", "color": ARROW_COLOUR, "lw": 1.2, "shrinkB": 4},
    )


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The ranked cases as Markdown; ``rows`` as in ``audit.json``."""
    suspicious = sum(row["score"] > 0 for row in rows)
    lines = [f"# Audit: {suspicious} of {len(rows)} cases are suspicious", "", EXPLAINED]
    lines += ["| rank | case | score | mL | worst |", "|---:|---|---:|---:|---|"]
    for row in rows:
        worst = row["found"][0]["sentence"] if row["found"] else ""
        volume_ml = f"{row['volume_ml']:.1f}" if "volume_ml" in row else ""
        cells = (row["rank"], row["name"], f"{row['score']:.1f}", volume_ml, worst)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for row in rows:
        lines += ["", *_section(row)]
    return "\n".join(lines) + "\n"


def _section(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {row['rank']}. {row['name']}"
    yield ""
    for one in row["found"]:
        yield f"- **{one['weight']:.1f}** {one['sentence']}"
    if not row["found"]:
        yield "- nothing suspicious"
    yield ""
    yield "; ".join(_facts(row)) + "."
    if row["picture"]:
        yield ""
        yield f"![{row['name']}]({quote(row['picture'])})"


def _facts(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"Patient {row['patient']}"
    if "slices" in row:
        yield f"{row['slices']} slices, voxels of {row['spacing_mm']} mm"
    if "volume_ml" in row:
        yield f"{row['volume_ml']:.1f} mL of effusion"
    if "slices_with_mask" in row:
        yield f"mask in {row['slices_with_mask']} slices"
        yield f"{row['outside_fluid']:.0%} of it outside fluid densities"
        yield f"median {row['median_hu']:.0f} HU"
        yield f"{row['open_border']:.0%} of its border open"
    if "mask_grid" in row:
        yield f"grid of the mask: {row['mask_grid']}"
    for name, value in row.items():
        if name.startswith("dice_"):
            yield f"Dice with the {name.removeprefix('dice_')} reader {value:.2f}"
