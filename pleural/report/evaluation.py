"""What a report says of an evaluation: predicted masks judged by references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pleural.data.case import natural
from pleural.report import case_table, plots, stills
from pleural.report.case_table import Column
from pleural.report.page import DICE, INTERVALS, Chart, Page, Study, Table, chosen_on
from pleural.report.slices import PREDICTION, REFERENCE
from pleural.statistics import TOO_FEW
from pleural.summary_text import shown
from pleural.words import counted, listed

MODEL = "model"
CALLED = {"against": "other predictions"}
OVERLAP = ("dice", "nsd", "hd95_mm")
KEYS = (*("name", *OVERLAP, "reference_ml", "predicted_ml", "volume_error_ml"),)
REST = ("sensitivity", "precision", "band", "found")
READERS = {
    "reader": "Mask by",
    "cases": "With effusion",
    "dice": "Mean Dice",
    "nsd": "NSD",
    "hd95_mm": "HD95",
    "sensitivity": "Sensitivity",
    "precision": "Precision",
    "absolute_volume_error_ml": "Absolute error",
}
UNITS = {"hd95_mm": "mm", "absolute_volume_error_ml": "mL"}
DIFFERENCE = {"of": "Of", "difference": "Ours minus theirs", "p": "p", "test": "Test"}
Row = Mapping[str, Any]


def evaluation(folder: Path, record: Mapping[str, Any]) -> Page:
    """``record``: what ``summary.json`` holds."""
    by_reader: dict[str, list[dict[str, Any]]] = {}
    for row in case_table.read(folder / "cases.csv"):
        by_reader.setdefault(CALLED.get(row["reader"], row["reader"]), []).append(row)
    rows = sorted(by_reader[MODEL], key=_worst)
    others = {reader: own for reader, own in by_reader.items() if reader != MODEL}
    model = record["readers"][MODEL]
    return Page(
        title="Evaluation of predicted pleural effusions",
        words=[*_words(model, rows)],
        cautions=[*_cautions(record)],
        cases=_cases(rows, others, record["tolerance_mm"]),
        made=datetime.fromtimestamp((folder / "summary.json").stat().st_mtime),
        facts=_facts(folder, record),
        charts=[*_charts(model, by_reader)],
        tables=_tables(record, others),
        studies=[_study(row, record["files"][row["name"]]) for row in rows],
        order="worst first",
    )


def _worst(row: Row) -> tuple[Any, ...]:
    """By Dice; a false alarm counts as a missed effusion, a quiet negative is perfect."""
    judged = row["dice"] if row["reference_ml"] else float(not row["found"])
    return judged, -row["absolute_volume_error_ml"], natural(row["name"])


def _words(model: Row, rows: Sequence[Row]) -> Iterator[str]:
    detection, agreement = model["detection"], model["bland_altman"]
    n_positive, missed = model["n_with_effusion"], model["missed"]
    from_ml = f"{detection['threshold_ml']:g} mL"
    if n_positive:
        found = n_positive - len(missed)
        yield f"The model found {found} of {counted(n_positive, 'effusion')}."
        dice = model["mean"]["dice"]
        few = f": {TOO_FEW}" if model["warning"] else ""
        yield f"Mean Dice {shown(dice, 2)} over {counted(dice['n'], 'patient')}{few}."
        yield f"{DICE} {INTERVALS}"
        error = model["mean"]["absolute_volume_error_ml"]
        yield f"The volume is off by {shown(error, 0)} mL on average, in either direction."
    if agreement["sd_ml"] is not None:
        bias = agreement["bias_ml"]["value"]
        way = "more" if bias > 0 else "less"
        low, high = (shown(agreement[key], 0) for key in ("lower_ml", "upper_ml"))
        yield (
            f"In the mean the model sees {abs(bias):.0f} mL {way} than the reference; the limits "
            f"of agreement (1.96 standard deviations to either side) are {low} and {high} mL."
        )
    if negative := [row for row in rows if not row["reference_ml"]]:
        alarms = [row["name"] for row in negative if row["found"]]
        yield (
            f"On {len(alarms)} of {counted(len(negative), 'scan')} without effusion it marked "
            f"{from_ml} or more; on average {shown(model['invented_ml'], 1)} mL."
        )


def _cautions(record: Row) -> Iterator[str]:
    model, source = record["readers"][MODEL], record["sources"][MODEL]
    from_ml = f"{model['detection']['threshold_ml']:g} mL"
    if model["missed"]:
        yield f"Missed (less than {from_ml}, or in another place): {listed(model['missed'])}."
    if source["failed"]:
        yield f"Failed in prediction, and judged as empty masks: {listed(source['failed'])}."
    if source["left_out"]:
        yield f"Left out, as every run trained on them: {listed(source['left_out'])}."
    yield from chosen_on(source)


def _cases(rows: Sequence[Row], others: Mapping[str, Sequence[Row]], tolerance_mm: float) -> Table:
    """The model's numbers, and beside them the Dice of further readers."""
    extra = {
        f"dice of {reader}": {row["name"]: row["dice"] for row in own if row["reference_ml"]}
        for reader, own in others.items()
    }
    shown_rows = [
        {
            **row,
            **({} if row["reference_ml"] else dict.fromkeys(OVERLAP)),
            **{key: dice.get(row["name"]) for key, dice in extra.items()},
        }
        for row in rows
    ]
    columns = [
        *case_table.columns(KEYS),
        *(Column(key, f"Dice, {key.removeprefix('dice of ')}", 3) for key in extra),
        *case_table.columns(REST),
    ]
    note = (
        f"Worst first. NSD: share of both surfaces within {tolerance_mm:g} mm of each other. "
        "HD95: distance within which 95 % of either surface lies from the other. Error: predicted "
        "minus reference. Scans without effusion have no overlap to speak of."
    )
    return Table(columns, shown_rows, note)


def _study(row: Row, files: Row) -> Study:
    volumes = f"{row['predicted_ml']:.1f} mL predicted, {row['reference_ml']:.1f} mL in reference"
    told = f"Dice {row['dice']:.3f}; {volumes}" if row["reference_ml"] else volumes
    own = {REFERENCE: files["reference"], PREDICTION: files["prediction"]}
    masks = {who: Path(path) for who, path in (own | files["readers"]).items() if path}
    return Study(row["name"], told, Path(files["image"]), masks)


def _charts(model: Row, by_reader: Mapping[str, Sequence[Row]]) -> Iterator[Chart]:
    positive = {
        reader: [row for row in own if row["reference_ml"]] for reader, own in by_reader.items()
    }
    own = positive[MODEL]
    if not own:
        return
    agreement, bands = model["bland_altman"], model["bands"]
    yield Chart(
        "bland_altman",
        "Does the volume agree?",
        "Bland–Altman plot of the scans with effusion. Solid: mean difference (bias); dashed: "
        "limits of agreement, between which 95 % of differences lie if they are normal; bars: "
        "their 95 % intervals.",
        plots.markup(plots.bland_altman(own, agreement), "bland_altman"),
        stills.bland_altman(own, agreement),
    )
    yield Chart(
        "bands",
        "Does it depend on the size of the effusion?",
        "Dice by volume of the reference: means with 95 % intervals, and every scan. "
        "n counts patients.",
        plots.markup(plots.dice_by_size(own, bands), "bands"),
        stills.dice_by_size(own, bands),
    )
    if len(positive) > 1:
        yield Chart(
            "readers",
            "How do others do on the same scans?",
            "Dice with the reference, scan by scan. A click on a name switches it on or off.",
            plots.markup(plots.dice_by_reader(positive), "readers"),
        )


def _tables(record: Row, others: Mapping[str, Any]) -> dict[str, Table]:
    if not others:
        return {}
    rows = [
        {
            "reader": CALLED.get(reader, reader),
            "cases": one["n_with_effusion"],
            **{
                key: shown(one["mean"][key], 1 if key in UNITS else 2)
                for key in READERS
                if key in one["mean"]
            },
        }
        for reader, one in record["readers"].items()
    ]
    columns = [Column(key, title, None, UNITS.get(key, "")) for key, title in READERS.items()]
    note = "Means over the scans with effusion that each has marked, with 95 % intervals."
    tables = {"Readers beside the model": Table(columns, rows, note)}
    if difference := record.get("difference"):
        tables["Compared with the other predictions"] = _compared(difference)
    return tables


def _compared(difference: Row) -> Table:
    lines = [
        {"of": _named(key), **one, "difference": shown(one["difference"])}
        for key, one in difference.items()
        if isinstance(one, Mapping)
    ]
    columns = [Column(key, title, 3 if key == "p" else None) for key, title in DIFFERENCE.items()]
    n_cases = counted(difference["n_cases"], "scan")
    return Table(columns, lines, f"{n_cases} with effusion. {difference['warning'] or ''}")


def _named(key: str) -> str:
    return ", ".join(filter(None, (READERS.get(key, key), UNITS.get(key))))


def _facts(folder: Path, record: Row) -> dict[str, str]:
    sources = {name: source["folder"] for name, source in record["sources"].items()}
    facts = {"Evaluation": str(folder.absolute()), "Predictions": sources.pop(MODEL)}
    if sources:
        facts["Compared with"] = ", ".join(sources.values())
    facts["Surface Dice (NSD) at"] = f"{record['tolerance_mm']:g} mm"
    facts["An effusion counts from"] = (
        f"{record['readers'][MODEL]['detection']['threshold_ml']:g} mL"
    )
    return facts | record.get("versions", {})
