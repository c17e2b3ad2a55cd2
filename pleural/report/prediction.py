"""What a report says of a folder of predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pleural.data.case import natural
from pleural.errors import InputError
from pleural.prediction_folder import PredictionFolder
from pleural.report import case_table
from pleural.report.page import Page, Study, Table, chosen_on, left_out
from pleural.report.slices import PREDICTION
from pleural.words import counted, listed

HASH_SHOWN = 12
NO_REFERENCE = (
    "Nothing here is compared with a reference, so this page cannot tell how right the masks are; "
    "task=evaluate can, where a reference is known."
)
NOTE = (
    "Largest first. Right and left are the patient's. Cut off: the fluid reaches the edge of the "
    "scan, so that there may be more of it. Depth: the thickest layer of fluid."
)
NAMES = {"mirror": "Mirrored along", "detection_ml": "Counts as effusion from, mL"}
Row = Mapping[str, Any]


def prediction(path: Path, record: Mapping[str, Any]) -> Page:
    """``record``: what ``predict.json`` holds."""
    folder = PredictionFolder(path)
    rows = case_table.read(folder.cases)
    rows.sort(key=lambda row: (-row["volume_ml"], natural(row["name"])))
    failures = case_table.read(folder.failures) if folder.failures.exists() else []
    return Page(
        title="Predicted pleural effusions",
        words=[*_words(rows, record["detection_ml"])],
        cautions=[NO_REFERENCE, *_cautions(rows, record, failures)],
        cases=Table(case_table.columns(_keys(rows)), rows, NOTE),
        made=datetime.fromtimestamp(folder.record.stat().st_mtime),
        facts=_facts(path, record),
        studies=[_study(folder, row) for row in rows],
        order="largest first",
    )


def _keys(rows: Sequence[Row]) -> list[str]:
    """All but the time taken, and patients that are called as their study."""
    same = all(row["patient"] == row["name"] for row in rows)
    left_out = {"seconds", "patient"} if same else {"seconds"}
    return [key for row in rows[:1] for key in row if key not in left_out]


def _words(rows: Sequence[Row], detection_ml: float) -> Iterator[str]:
    found = sum(row["effusion"] for row in rows)
    yield f"An effusion of {detection_ml:g} mL or more in {found} of {counted(len(rows), 'scan')}."
    if found:
        most = rows[0]
        at_least = "at least " if most["lower_bound"] else ""
        yield (
            f"The largest is that of {most['name']}: {at_least}{most['volume_ml']:.0f} mL "
            f"({most['right_ml']:.0f} on the right, {most['left_ml']:.0f} on the left)."
        )


def _cautions(rows: Sequence[Row], record: Row, failures: Sequence[Row]) -> Iterator[str]:
    if cut := [row["name"] for row in rows if row["lower_bound"]]:
        yield f"The scan cuts the fluid off, so that there may be more of it: {listed(cut)}."
    if unsure := [row["name"] for row in rows if row.get("sides_sure") is False]:
        yield (
            "Too little of one side of the body is in view to tell right from left, which may be "
            f"wrong: {listed(unsure)}."
        )
    yield from left_out(rows)
    if seen := [row["name"] for row in rows if row["trained_on"]]:
        yield f"The network trained on these, so they say nothing of its quality: {listed(seen)}."
    if record["left_out"]:
        yield f"Left out, as every run trained on them: {listed(record['left_out'])}."
    yield from chosen_on(record)
    for failure in failures:
        yield f"{failure['name']} failed: {failure['reason']}."


def _study(folder: PredictionFolder, row: Row) -> Study:
    name = row["name"]
    study = folder.load_study(name)
    if study is None:
        raise InputError(f"{folder.study(name)}: no such file, though {folder.cases} names {name}")
    told = (
        f"{row['volume_ml']:.1f} mL: {row['right_ml']:.1f} on the right, "
        f"{row['left_ml']:.1f} on the left"
    )
    return Study(name, told, Path(study["image"]), {PREDICTION: folder.mask(name)})


def _by(record: Row) -> str:
    if record["held_out"]:
        return "Each case by those of these runs that did not train on it"
    return "By the run" if len(record["runs"]) == 1 else "By the mean of the runs"


def _facts(path: Path, record: Row) -> dict[str, str]:
    runs = [
        f"{run['path']} (weights {run['weights_sha256'][:HASH_SHOWN]})" for run in record["runs"]
    ]
    facts = {"Predictions": str(path.absolute()), _by(record): "; ".join(runs)}
    facts |= {told: str(record[key]) for key, told in NAMES.items() if record[key]}
    return facts | record["versions"]
