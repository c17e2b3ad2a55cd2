"""A folder of predictions on disk: a result for each study, and tables over all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pleural.io.whole import read_json, read_table, write_json, write_table

NAMED = ("left_out", "failed", "chosen_on")  # cases, in a record
TABLE_DECIMALS = 3  # the studies' own records hold all of them


class PredictionFolder:
    """The files of a prediction. The study's own record comes last: where it is, all is whole.

    ``masks/NAME.nii.gz``           0 and 1 on the study's own grid
    ``segs/NAME.dcm``               the same as DICOM SEG, of a study in DICOM
    ``probabilities/NAME.nii.gz``   where asked for
    ``previews/NAME.png``           slices with the contour
    ``studies/NAME.json``           measurements, weights, hashes, versions, times
    ``cases.csv``, ``failures.csv`` a row a study
    ``predict.json``                what was asked for, and which cases were left out

    Args:
        suffix: of a shard of the studies, what the names of its own tables and record end with.
    """

    def __init__(self, path: str | Path, suffix: str = "") -> None:
        self.path = Path(path).expanduser()
        self.masks = self.path / "masks"
        self.cases = self.path / f"cases{suffix}.csv"
        self.failures = self.path / f"failures{suffix}.csv"
        self.record = self.path / f"predict{suffix}.json"

    def mask(self, name: str) -> Path:
        return self.masks / f"{name}.nii.gz"

    def seg(self, name: str) -> Path:
        return self.path / "segs" / f"{name}.dcm"

    def probability(self, name: str) -> Path:
        return self.path / "probabilities" / f"{name}.nii.gz"

    def preview(self, name: str) -> Path:
        return self.path / "previews" / f"{name}.png"

    def study(self, name: str) -> Path:
        return self.path / "studies" / f"{name}.json"

    def load_study(self, name: str) -> dict[str, Any] | None:
        return read_json(self.study(name))

    def load_record(self) -> dict[str, Any] | None:
        return read_json(self.record)

    def load_failures(self) -> list[dict[str, str]]:
        return read_table(self.failures) if self.failures.exists() else []

    def discard(self, name: str) -> None:
        """Of a study, its record first: what is left without one is never taken for a result."""
        files = (self.study, self.mask, self.seg, self.probability, self.preview)
        for path in (file(name) for file in files):
            path.unlink(missing_ok=True)

    def save_study(self, study: Mapping[str, Any]) -> None:
        write_json(self.study(study["name"]), study)

    def save_record(self, record: Mapping[str, Any]) -> None:
        write_json(self.record, record)

    def save_tables(
        self, studies: Iterable[Mapping[str, Any]], failures: list[dict[str, str]]
    ) -> None:
        """``failures.csv`` is there only while there are any."""
        write_table(self.cases, [_row(study) for study in studies])
        if failures:
            write_table(self.failures, failures)
        else:
            self.failures.unlink(missing_ok=True)


def _row(study: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {
        key: round(value, TABLE_DECIMALS) if isinstance(value, float) else value
        for key, value in study["measurement"].items()
    }
    return {
        "name": study["name"],
        "patient": study["patient"],
        **study["known_as"],
        **numbers,
        "unsure_ml": round(study["unsure_ml"], TABLE_DECIMALS),
        "trained_on": bool(study["trained_on_by"]),
        "seconds": round(sum(study["seconds"].values()), 1),
    }
