"""One HTML page that needs nothing else: what it holds, and how that becomes HTML.

``report.html`` escapes whatever it is given; what is HTML already comes as ``Markup``. The page
forbids its browser every request, so that nothing can leave the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs

from pleural.report.case_table import Column
from pleural.report.overlay import Picture
from pleural.words import listed

HERE = Path(__file__).parent
NOTHING = "–"
DICE = (
    "Dice tells how far the model's mask and the reference overlap: 1 is the same mask, 0 no "
    "overlap."
)
INTERVALS = "Square brackets hold 95 % intervals over patients."


@dataclass(frozen=True)
class Table:
    """``rows`` in the order in which they are shown first; ``note`` says what to know of it."""

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A plot to play with and, where one is made, the same as a file for a paper or a slide."""

    name: str
    title: str
    note: str
    plot: Markup
    still: Figure | None = None


@dataclass
class Study:
    """A case to look at, and, once it is drawn, what there is to see of it.

    Args:
        told: its numbers, in a line.
        image, masks: files; ``masks`` by whose they are.
        missing: why there is no picture.
        viewer: see :func:`pleural.report.viewer.study`.
    """

    name: str
    told: str
    image: Path
    masks: dict[str, Path]
    pictures: list[Picture] = field(default_factory=list)
    missing: str | None = None
    viewer: dict[str, Any] | None = None


@dataclass
class Page:
    """What a report says and shows, in the order in which it is read.

    Args:
        words: the result in plain sentences.
        cautions: sentences of what must be known beside it.
        cases: a row each, sorted by a click on a head.
        tables: further ones, by their titles.
        studies: worst first, all of those in ``cases`` that could be shown.
        order: what worst means here.
        picture: of the validation, as a data URL.
        facts: what was done, by whom and with what, in names and values.
        settings: the configuration, as it was.
    """

    title: str
    words: list[str]
    cautions: list[str]
    cases: Table
    made: datetime
    facts: dict[str, str]
    charts: list[Chart] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    studies: list[Study] = field(default_factory=list)
    order: str = ""
    picture: str | None = None
    settings: str | None = None


def html(page: Page, **about: Any) -> str:
    """``about``: further names that ``report.html`` uses."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    shown_cases = {study.name: number for number, study in enumerate(page.studies)}
    return environment.get_template("report.html").render(
        page=page,
        drawn=shown_cases,
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "report.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
        **about,
    )


def shown(value: Any, decimals: int | None = None) -> str:
    """
    >>> shown(0.5, 2), shown(-0.01, 1), shown(True), shown(None), shown("right")
    ('0.50', '0.0', 'yes', '–', 'right')
    """
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if decimals is None:
        return str(value)
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0: no -0.0


def left_out(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A caution where the network is unsure of something (none in what older code wrote)."""
    unsure = [row for row in rows if row.get("unsure_ml")]
    if unsure:
        named = listed([f"{row['name']} ({row['unsure_ml']:.1f} mL)" for row in unsure])
        yield (
            "The network marked more, but is unsure of its inside, so that it is in no mask or "
            f"volume; look for yourself: {named}."
        )


def chosen_on(record: Mapping[str, Any]) -> Iterator[str]:
    """A caution where cases chose the epoch that predicts them (unknown to what is older)."""
    if names := record.get("chosen_on"):
        yield (
            "Helped to choose the epoch of the network that predicted them (none does with "
            f"keep=last), so expect a little less on new scans: {listed(names)}."
        )
