"""A folder of predicted masks, ours or anyone's, as an evaluation takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pleural import io
from pleural.data.case import Case, mask_findings
from pleural.errors import Findings, InputError
from pleural.io import find
from pleural.prediction_folder import NAMED, PredictionFolder
from pleural.volume import Volume
from pleural.words import listed


@dataclass(frozen=True)
class Predictions:
    """The mask of each case by name.

    Args:
        left_out: cases that were not to be predicted, since every run trained on them.
        failed: cases that were to be, but failed: judged as empty masks, so never forgotten.
        chosen_on: cases that helped to choose the epoch of the network that predicted them.
        made_by: of our own predictions, the runs and how they were applied.
    """

    folder: Path
    masks: dict[str, Path]
    left_out: list[str]
    failed: list[str]
    chosen_on: list[str]
    made_by: dict[str, Any]

    @classmethod
    def of(cls, folder: str | Path, cases: Sequence[Case]) -> Predictions:
        """The masks in ``folder`` (or in its ``masks/``) that ``cases`` are to be judged by.

        Raises:
            InputError: no such folder, no masks in it, or a prediction of ours that was cut off.
            Findings: cases without a prediction, predicted by what trained on them, or, of our own
                predictions, of another image.
        """
        ours = PredictionFolder(Path(folder).expanduser().absolute())
        if not ours.path.is_dir():
            raise InputError(f"{folder}: there is no such folder of predictions")
        if ours.path.name == ours.masks.name and (ours.path.parent / "studies").is_dir():
            ours = PredictionFolder(ours.path.parent)  # their records belong to the masks
        record = ours.load_record()
        if record is None and (ours.path / "studies").is_dir():
            raise InputError(
                f"{folder}: this prediction has not come to its end, so masks may be missing, or "
                "of other networks: give its command again, which keeps what is done"
            )
        record = record or {}
        masks = _masks(ours.masks if ours.masks.is_dir() else ours.path)
        studies = {case.name: ours.load_study(case.name) or {} for case in cases}
        left_out, failed, chosen_on = (
            [name for name in record.get(key, []) if name in studies]
            for key in NAMED  # of which older records have fewer
        )
        judged = [case for case in cases if case.name not in {*left_out, *failed}]
        findings = []
        if missing := [case.name for case in judged if case.name not in masks]:
            findings.append(
                f"no mask for {listed(missing)}; a mask is called as its case: {missing[0]}.nii.gz"
                f" (here: {listed(sorted(masks)) or 'no NIfTI file'})"
            )
        if seen := [case.name for case in judged if studies[case.name].get("trained_on_by")]:
            findings.append(
                f"{listed(seen)}: predicted by a network that trained on it, which shows nothing; "
                "predict with task.held_out=true, or other cases"
            )
        if changed := [case.name for case in judged if _of_another_image(studies[case.name], case)]:
            findings.append(
                f"{listed(changed)}: predicted of another image than the one to judge by (their "
                "contents differ); predict anew, or judge by the files that were predicted"
            )
        if findings:
            raise Findings(f"{folder} cannot be judged:", findings)
        runs = {run["path"]: run for study in studies.values() for run in study.get("runs", [])}
        made_by = {"runs": [*runs.values()]}
        made_by |= {key: record[key] for key in ("held_out", "mirror") if key in record}
        return cls(ours.path, masks, left_out, failed, chosen_on, made_by)

    def mask(self, name: str, scan: Volume) -> Volume:
        """0 and 1, its axes in the order of ``scan``; empty for a case that failed.

        Raises:
            InputError: the mask holds other values.
        """
        if name in self.failed:
            return scan.with_array(np.zeros(scan.shape, np.uint8))
        path = self.masks[name]
        mask = io.read(path)
        if mask.array.any() and (found := mask_findings(mask)):
            raise InputError(f"{path}: {'; '.join(found)}")
        # Turned, not resampled: a mask on another grid than its scan is refused, not adapted.
        turned = mask.reoriented(scan.codes)
        return turned.with_array((turned.array != 0).astype(np.uint8))

    def described(self) -> dict[str, Any]:
        named = {"left_out": self.left_out, "failed": self.failed, "chosen_on": self.chosen_on}
        return {"folder": str(self.folder), **named, **self.made_by}


def _of_another_image(study: Mapping[str, Any], case: Case) -> bool:
    try:
        return "image_sha256" in study and study["image_sha256"] != case.image_hash
    except InputError:  # cannot be read: told when the case is judged
        return False


def _masks(folder: Path) -> dict[str, Path]:
    masks: dict[str, Path] = {}
    for path in filter(find.is_nifti, find.entries(folder)):
        if (twin := masks.setdefault(find.stem(path), path)) is not path:
            raise InputError(f"{folder}: {twin.name} and {path.name} are both called so; keep one")
    return masks
