"""The task of evaluation: predicted masks against references, case by case and over all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pleural.data.case import Case
from pleural.errors import Findings, InputError
from pleural.io.whole import write_json, write_table, write_text
from pleural.metrics import Agreement, agreement
from pleural.predictions import Predictions
from pleural.size import band, check_detection, detected
from pleural.summaries import difference, summary
from pleural.summary_text import as_markdown
from pleural.versions import versions
from pleural.volume import Volume
from pleural.words import listed

MODEL, OTHER = "model", "against"
Row = dict[str, Any]


def evaluate(
    data: Any,
    predictions: str | Path,
    against: str | Path | None,
    tolerance_mm: float,
    detection_ml: float,
    run_dir: str | Path,
) -> float:
    """Judge predicted masks by the references of ``data``, on the scans' own grids.

    Further readers' masks are judged in the same way, and the model once more on the cases that
    each of them read. Writes ``cases.csv`` (a row for each case and reader), ``summary.json`` and
    ``summary.md``.

    Args:
        data: has ``cases()``; unlabelled ones are passed over.
        predictions: a folder of our predictions, or anyone's: NIfTI masks named as the cases.
        against: another such folder, compared case by case.
        tolerance_mm: of the surface Dice.
        detection_ml: from this volume on, an effusion counts as found.

    Returns:
        Mean Dice over the cases with effusion, 0 where nothing of it is marked; NaN where
        there are none.

    Raises:
        InputError: a case has no prediction, was predicted by a network that trained on it or of
            another image, or its prediction is no mask on the grid of its scan; all of them in one
            list. A further reader has a name that is taken.
    """
    check_detection(detection_ml)
    if not isinstance(tolerance_mm, int | float) or not tolerance_mm >= 0:
        raise InputError(f"task.tolerance_mm is a distance, 0 or more; got {tolerance_mm}")
    cases = _labelled(data)
    sources = {MODEL: Predictions.of(predictions, cases)}
    if against is not None:
        sources[OTHER] = Predictions.of(against, cases)
    judged = [case for case in cases if case.name not in sources[MODEL].left_out]
    if not judged:
        raise InputError(f"{predictions}: none of {len(cases)} labelled cases is predicted there")
    rows = _all_rows(judged, sources, tolerance_mm, detection_ml)
    result: dict[str, Any] = {
        "versions": versions(),
        "tolerance_mm": tolerance_mm,
        "sources": {name: source.described() for name, source in sources.items()},
        "readers": _summaries(rows, detection_ml),
        "files": {case.name: _files(case, sources[MODEL]) for case in judged},
    }
    if against is not None:
        result["difference"] = difference(rows[MODEL], rows[OTHER])
    text = as_markdown(result, rows)
    folder = Path(run_dir)
    write_table(folder / "cases.csv", [row for own in rows.values() for row in own])
    write_json(folder / "summary.json", result)
    write_text(folder / "summary.md", text)
    print(f"\n{text}\neverything is in {folder}")
    dice = result["readers"][MODEL]["mean"]["dice"]["value"]
    return math.nan if dice is None else float(dice)


def _labelled(data: Any) -> list[Case]:
    cases = [case for case in data.cases() if case.labelled]
    if not cases:
        raise InputError("no case has a reference mask, or is known to be free of effusion")
    if taken := {reader for case in cases for reader in case.readers} & {MODEL, OTHER}:
        raise InputError(
            f"a further reader is called {listed(sorted(taken))}, which is what the tables call "
            "predictions: give that reader another name"
        )
    return cases


def _all_rows(
    cases: Sequence[Case],
    sources: Mapping[str, Predictions],
    tolerance_mm: float,
    detection_ml: float,
) -> dict[str, list[Row]]:
    """By who made the mask: the predictions, then further readers."""
    rows: dict[str, list[Row]] = {name: [] for name in sources}
    findings: list[str] = []
    for case in tqdm(cases, "Judging", leave=False):
        try:
            for row in _rows(case, sources, tolerance_mm, detection_ml):
                rows.setdefault(row["reader"], []).append(row)
        except Findings as error:
            findings += error.findings
        except InputError as error:
            findings.append(f"{case.name}: {error}")
    if findings:
        raise Findings(f"{len(findings)} findings in {len(cases)} cases; none judged:", findings)
    return rows


def _rows(
    case: Case, sources: Mapping[str, Predictions], tolerance_mm: float, detection_ml: float
) -> Iterator[Row]:
    scan, reference = case.load()
    assert reference is not None, "only labelled cases are judged"
    for name, source in sources.items():
        if case.name not in source.left_out:
            mask = source.mask(case.name, scan)
            yield _row(case, name, mask, reference, tolerance_mm, detection_ml)
    for reader in case.readers:
        mask = case.reading(reader, scan)
        yield _row(case, reader, mask, reference, tolerance_mm, detection_ml)


def _row(
    case: Case,
    reader: str,
    mask: Volume,
    reference: Volume,
    tolerance_mm: float,
    detection_ml: float,
) -> Row:
    one = agreement(mask, reference, tolerance_mm)
    return {
        "name": case.name,
        "patient": case.patient,
        "reader": reader,
        **asdict(one),
        "volume_error_ml": one.volume_error_ml,
        "absolute_volume_error_ml": one.absolute_volume_error_ml,
        "band": band(one.reference_ml) if one.reference_ml else "none",
        "found": _found(one, detection_ml),
    }


def _found(one: Agreement, detection_ml: float) -> bool:
    """The prediction reaches the threshold and, where there is an effusion, overlaps it.

    An effusion below the threshold is found by overlap alone.
    """
    if 0 < one.reference_ml < detection_ml:
        return one.dice > 0
    reached = detected(one.predicted_ml, detection_ml)
    return reached and (one.dice > 0 or not one.reference_ml)


def _summaries(rows: Mapping[str, Sequence[Row]], detection_ml: float) -> dict[str, Any]:
    """Of each reader; beside a further reader, the model on the same cases."""
    result = {reader: summary(own, detection_ml) for reader, own in rows.items()}
    for reader, own in rows.items():
        if reader not in (MODEL, OTHER):
            read = {row["name"] for row in own}
            same = [row for row in rows[MODEL] if row["name"] in read]
            result[f"{MODEL}, where {reader} read"] = summary(same, detection_ml)
    return result


def _files(case: Case, source: Predictions) -> dict[str, Any]:
    """Where a report finds what to show."""
    path = source.masks.get(case.name)
    return {
        "image": str(case.image.absolute()),
        "reference": str(case.mask.absolute()) if case.mask else None,
        "prediction": str(path.absolute()) if path else None,
        "readers": {name: str(mask.absolute()) for name, mask in case.readers.items()},
    }
