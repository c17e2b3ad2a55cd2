"""What a report says of a training run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from pleural.data.case import natural
from pleural.report import case_table, plots
from pleural.report.overlay import data_url
from pleural.report.page import DICE, INTERVALS, Chart, Page, Table, left_out
from pleural.run_folder import CONFIG, RunFolder, validation_chose
from pleural.statistics import TOO_FEW, few, mean
from pleural.summary_text import shown
from pleural.words import counted, listed

KEYS = ("name", "dice", "reference_ml", "predicted_ml", "volume_error_ml")


def training(folder: Path, record: Mapping[str, Any]) -> Page:
    """``record``: what ``run.json`` holds; of a run that goes on, less than of a finished one."""
    run = RunFolder(folder)
    epochs = case_table.read(run.metrics) if run.metrics.exists() else []
    cases = _cases(record)
    settings, slices = folder / CONFIG, run.validation_slices
    return Page(
        title="Training of a network for pleural effusion",
        words=[*_words(record, cases, len(epochs))],
        cautions=[*_cautions(record, cases)],
        cases=Table(
            case_table.columns(KEYS),
            cases,
            "Validation scans, judged on their own grids by the weights that were kept. "
            "Worst first; without effusion there is no overlap to speak of, and no Dice.",
        ),
        made=datetime.fromtimestamp(run.record.stat().st_mtime),
        facts=_facts(folder, record),
        charts=[_curve(epochs, record.get("best_epoch"))] if epochs else [],
        picture=data_url(slices.read_bytes(), "png") if slices.exists() else None,
        settings=settings.read_text(encoding="utf-8") if settings.exists() else None,
    )


def _cases(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Worst first, those without effusion at the end."""
    patients = {case["name"]: case["patient"] for case in record["split"]["validation"]}
    rows = [
        {
            **case,
            "patient": patients[case["name"]],
            "dice": case["dice"] if case["reference_ml"] else None,
            "volume_error_ml": case["predicted_ml"] - case["reference_ml"],
        }
        for case in record.get("cases", [])
    ]
    return sorted(rows, key=lambda row: (row["dice"] is None, row["dice"], natural(row["name"])))


def _words(
    record: Mapping[str, Any], cases: Sequence[Mapping[str, Any]], n_epochs: int
) -> Iterator[str]:
    split = record["split"]
    learned = f"The network learned from {_scans(split['training'])}"
    if "best_epoch" not in record:
        yield f"{learned}. It has not come to its end: {counted(n_epochs, 'epoch')} so far."
        return
    epochs = f"epoch {record['best_epoch']} of {record['epochs']}, counted from 0"
    if not split["validation"]:
        yield f"{learned}. None was kept back to judge it: its weights are those of {epochs}."
        return
    yield f"{learned} and was judged on {_scans(split['validation'])}."
    positive = [row for row in cases if row["dice"] is not None]
    best = validation_chose(record)
    of_epoch = f"It did best at {epochs}." if best else f"Its weights are those of {epochs}."
    if not positive:
        yield f"None of these has an effusion, so there is no mean Dice. {of_epoch}"
        return
    dice = mean([row["dice"] for row in positive], [row["patient"] for row in positive], (0, 1))
    few_patients = f": {TOO_FEW}" if few(dice.n) else ""
    yield (
        f"Mean Dice {shown(asdict(dice), 2)} over {counted(dice.n, 'patient')} with effusion"
        f"{few_patients}."
    )
    yield DICE if dice.low is None else f"{DICE} {INTERVALS}"
    yield of_epoch
    if missed := [row["name"] for row in positive if row["dice"] == 0]:
        yield f"No part of the effusion was found in {listed(missed)}."


def _cautions(record: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not record["finished"]:
        yield "The training was stopped, or still goes on: these are the numbers until then."
    if cases and validation_chose(record):
        yield "The best epoch was chosen by these very scans: expect a little less on new ones."
    yield from left_out(cases)


def _scans(cases: Sequence[Mapping[str, Any]]) -> str:
    n_patients = len({case["patient"] for case in cases})
    return f"{counted(len(cases), 'scan')} of {counted(n_patients, 'patient')}"


def _curve(epochs: Sequence[Mapping[str, Any]], best_epoch: int | None) -> Chart:
    plot = plots.markup(plots.dice_curve(epochs, best_epoch), "dice")
    note = (
        "On training patches the soft Dice of the probabilities, on validation scans the mean "
        "Dice of the masks. A click on a name switches a curve on or off."
    )
    return Chart("dice", "Dice against epoch", note, plot)


def _facts(folder: Path, record: Mapping[str, Any]) -> dict[str, str]:
    seconds = record.get("seconds", {})
    patches = record.get("patches")
    facts = {
        "Run": str(folder.absolute()),
        "Seed": str(record["seed"]),
        "Precision": record.get("precision", ""),
        "Patches seen": f"{patches:,}" if patches is not None else "",
        "Time": ", ".join(f"{stage} {_time(taken)}" for stage, taken in seconds.items()),
        "Started from": _start(record.get("start")),
        "Trained on": listed([case["name"] for case in record["split"]["training"]], 40),
    }
    return {name: value for name, value in (facts | record["versions"]).items() if value}


def _start(start: Mapping[str, Any] | None) -> str:
    if start is None:
        return ""
    return f"{start['run']}, which learnt from {counted(len(start['training']), 'scan')}"


def _time(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"
