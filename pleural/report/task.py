"""The task of reporting: a folder of results in, one HTML page out that opens anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pleural.errors import InputError, one_line
from pleural.io.whole import read_json, write_text, write_whole
from pleural.report import overlay, viewer
from pleural.report.evaluation import evaluation
from pleural.report.page import Page, Study, html
from pleural.report.prediction import prediction
from pleural.report.slices import Slices
from pleural.report.training import training
from pleural.versions import versions

# By the file that tells what a folder is, and a name that it then holds.
KINDS: dict[tuple[str, str], Callable[[Path, Mapping[str, Any]], Page]] = {
    ("run.json", "split"): training,
    ("predict.json", "runs"): prediction,
    ("summary.json", "readers"): evaluation,
}


def report(
    run: str | Path, pictures: int, viewers: int, width_px: int, run_dir: str | Path
) -> float:
    """Write ``report.html`` into ``run_dir``, and its plots as PNG where there are such.

    Args:
        run: the folder of a training, a prediction or an evaluation.
        pictures: of so many cases slices are shown, worst first (largest first where nothing is
            known of better and worse).
        viewers: of so many of these, all slices are there to scroll through.
        width_px: of these slices. Twice the width makes a file about four times as large.

    Returns:
        The number of cases in the report.

    Raises:
        InputError: ``run`` is none of the three, or its files cannot be read.
    """
    page = page_of(Path(run).expanduser())
    page.studies = page.studies[:pictures]
    for number, study in enumerate(tqdm(page.studies, "Drawing", leave=False)):
        draw(study, width_px if number < viewers else None)
    folder = Path(run_dir)
    text = html(
        page,
        report_made=datetime.now(),
        report_versions=versions(),
        windows=viewer.WINDOWS_HU,
        reduced=viewer.reduced(width_px),
    )
    path = folder / "report.html"
    write_text(path, text)
    for chart in page.charts:
        if chart.still is not None:
            write_whole(folder / f"{chart.name}.png", chart.still.savefig)
    _tell(page.studies, path)
    return float(len(page.cases.rows))


def page_of(folder: Path) -> Page:
    """What kind of folder it is, and what it says.

    Raises:
        InputError: it is none that we know.
    """
    for (name, key), read in KINDS.items():
        record = read_json(folder / name)
        if record is not None and key in record:
            return read(folder, record)
    raise InputError(
        f"{folder}: no folder of results; task.run takes one of a training (run.json), "
        "a prediction (predict.json) or an evaluation (summary.json)"
    )


def draw(study: Study, width_px: int | None) -> None:
    """Pictures, and a viewer of this width; a sentence where a file is not what it was."""
    try:
        slices = Slices.read(study.image, study.masks)
    except InputError as error:
        study.missing = one_line(error)
        return
    study.pictures = overlay.pictures(slices)
    if width_px is not None:
        study.viewer = viewer.study(slices, width_px)


def _tell(studies: Sequence[Study], path: Path) -> None:
    for study in studies:
        if study.missing:
            print(f"no picture of {study.name}: {study.missing}")
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB): opens in any browser, without a network")
