"""From a row for each case to what is said of all of them.

A row holds ``patient``, ``reference_ml``, ``predicted_ml``, the numbers of ``OVERLAP`` and
``VOLUME``, and ``found``. Cases with effusion are those whose reference is not empty: only they
have an overlap to speak of. Cases without are judged by the millilitres that were invented.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pleural.size import band, detected
from pleural.statistics import (
    bland_altman,
    concordance,
    few,
    mean,
    median,
    paired,
    proportion,
)

Row = Mapping[str, Any]
OVERLAP = ("dice", "nsd", "hd95_mm", "sensitivity", "precision")
VOLUME = ("volume_error_ml", "absolute_volume_error_ml")
SHARES = ("dice", "nsd", "sensitivity", "precision")
MEDIANS = ("dice", "absolute_volume_error_ml")
COMPARED = ("dice", "nsd", "hd95_mm", "absolute_volume_error_ml")


def summary(rows: Sequence[Row], detection_ml: float) -> dict[str, Any]:
    """Plain values, estimates as ``{"value", "low", "high", "n"}``.

    ``n`` counts patients; of detection, scans.
    """
    positive = [row for row in rows if row["reference_ml"] > 0]
    negative = [row for row in rows if row["reference_ml"] == 0]
    volumes = _columns(positive, "predicted_ml", "reference_ml")
    return {
        "n_cases": len(rows),
        "n_with_effusion": len(positive),
        "n_without": len(negative),
        "missed": [row["name"] for row in positive if not row["found"]],
        "mean": {key: _mean(positive, key) for key in (*OVERLAP, *VOLUME)},
        "median": {key: asdict(median(*_columns(positive, key))) for key in MEDIANS},
        "bland_altman": asdict(bland_altman(*volumes)),
        "concordance": asdict(concordance(*volumes)),
        "detection": _detection(rows, detection_ml),
        "invented_ml": _mean(negative, "predicted_ml"),
        "bands": {name: _band(part) for name, part in _by_band(positive).items()},
        "warning": few(len({row["patient"] for row in positive})) if positive else None,
    }


def difference(ours: Sequence[Row], theirs: Sequence[Row]) -> dict[str, Any]:
    """Ours minus theirs over the cases with effusion that both hold, with a paired test."""
    other = {row["name"]: row for row in theirs}
    both = [row for row in ours if row["name"] in other and row["reference_ml"] > 0]
    result: dict[str, Any] = {"n_cases": len(both)}
    for key in COMPARED:
        pair = paired(
            [row[key] for row in both],
            [other[row["name"]][key] for row in both],
            [row["patient"] for row in both],
            bounds=(-1.0, 1.0) if key in SHARES else (-math.inf, math.inf),
        )
        result[key] = asdict(pair)
    return result | {"warning": few(len({row["patient"] for row in both}))}


def _mean(rows: Sequence[Row], key: str) -> dict[str, Any]:
    least = -math.inf if key == "volume_error_ml" else 0.0
    most = 1.0 if key in SHARES else math.inf
    values, patients = _columns(rows, key)
    return asdict(mean(values, patients, bounds=(least, most)))


def _columns(rows: Sequence[Row], *keys: str) -> list[list[Any]]:
    return [[row[key] for row in rows] for key in (*keys, "patient")]


def _detection(rows: Sequence[Row], detection_ml: float) -> dict[str, Any]:
    """At ``detection_ml``, which parts references as well as predictions."""
    there = [row for row in rows if detected(row["reference_ml"], detection_ml)]
    not_there = [row for row in rows if not detected(row["reference_ml"], detection_ml)]
    quiet = [row for row in not_there if not detected(row["predicted_ml"], detection_ml)]
    found = [row for row in there if row["found"]]
    return {
        "threshold_ml": detection_ml,
        "sensitivity": asdict(proportion(len(found), len(there))),
        "specificity": asdict(proportion(len(quiet), len(not_there))),
    }


def _by_band(rows: Sequence[Row]) -> dict[str, list[Row]]:
    bands: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: float(row["reference_ml"])):
        bands.setdefault(band(row["reference_ml"]), []).append(row)
    return bands


def _band(rows: Sequence[Row]) -> dict[str, Any]:
    keys = ("dice", "volume_error_ml", "absolute_volume_error_ml")
    return {"n_cases": len(rows)} | {key: _mean(rows, key) for key in keys}
