"""Tables of cases as the tasks write them: read back as values, with what their columns mean."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pleural.errors import InputError, first_line
from pleural.io.whole import read_table

IDENTIFIERS = ("patient_name", "patient_id", "birth_date", "study_date", "accession_number")
TEXT = ("name", "patient", "reader", "band", "size", "image", "reason", *IDENTIFIERS)
FLAGS = {"True": True, "False": False}


@dataclass(frozen=True)
class Column:
    """``decimals`` of its numbers; ``None`` where it holds words."""

    key: str
    title: str
    decimals: int | None = None
    unit: str = ""


COLUMNS = {
    column.key: column
    for column in (
        Column("name", "Case"),
        Column("patient", "Patient"),
        Column("patient_name", "Name"),
        Column("patient_id", "ID"),
        Column("birth_date", "Born"),
        Column("study_date", "Study of"),
        Column("accession_number", "Accession"),
        Column("dice", "Dice", 3),
        Column("nsd", "NSD", 3),
        Column("hd95_mm", "HD95", 1, "mm"),
        Column("reference_ml", "Reference", 1, "mL"),
        Column("predicted_ml", "Predicted", 1, "mL"),
        Column("volume_error_ml", "Error", 1, "mL"),
        Column("sensitivity", "Sensitivity", 2),
        Column("precision", "Precision", 2),
        Column("band", "Size", None, "mL"),
        Column("found", "Found"),
        Column("volume_ml", "Volume", 1, "mL"),
        Column("right_ml", "Right", 1, "mL"),
        Column("left_ml", "Left", 1, "mL"),
        Column("sides_sure", "Sides sure"),
        Column("depth_mm", "Depth", 1, "mm"),
        Column("size", "Size"),
        Column("mean_hu", "Mean", 1, "HU"),
        Column("sd_hu", "SD", 1, "HU"),
        Column("collections", "Collections", 0),
        Column("edge_share", "At the edge", 3),
        Column("lower_bound", "Cut off"),
        Column("effusion", "Effusion"),
        Column("unsure_ml", "Left out as unsure", 1, "mL"),
        Column("trained_on", "Trained on"),
        Column("seconds", "Time", 1, "s"),
    )
}


def columns(keys: Iterable[str]) -> list[Column]:
    """What is not known by name is a number that is called as its key."""
    return [COLUMNS.get(key, Column(key, key, 2)) for key in keys]


def read(path: Path) -> list[dict[str, Any]]:
    """A row a line: numbers, truth values, and words in the columns of ``TEXT``.

    ``None`` where a field is empty.

    Raises:
        InputError: there is no such file, or a field holds what does not belong there.
    """
    try:
        return [{key: _value(key, text) for key, text in line.items()} for line in read_table(path)]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({first_line(error)})") from error


def _value(key: str, text: str) -> Any:
    if key in TEXT:
        return text
    if not text:
        return None
    return FLAGS[text] if text in FLAGS else float(text)
