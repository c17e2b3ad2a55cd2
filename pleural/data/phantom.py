"""Synthetic studies with known volumes, so that a fresh clone has something to train on.

They are written once, as the same kind of files that real studies are, and read like them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pleural.anatomy import Chest, chest
from pleural.data.case import Case
from pleural.errors import InputError
from pleural.io import nifti
from pleural.io.whole import write_folder

# Any two neighbours together are small and large.
VOLUMES_ML = (600, 150, 900, 40, 1200, 250, 0, 1500, 90, 400)
IMAGES = {"nifti": "ct.nii.gz", "dicom": "ct"}
VERSION = 1  # of the generator: raise it whenever a phantom comes out differently


@dataclass(frozen=True)
class Phantom:
    """``n_cases`` synthetic chests under ``root``, written when first asked for.

    Args:
        root: studies of one setting share a folder below it, named after the setting, so that
            phantoms of another seed, spacing, format or version are never mixed in.
        n_cases: a larger number later adds studies and keeps those that are there.
        seed: of patients and scanners; the volumes are the same for each seed.
        image_format: ``"nifti"`` (``ct.nii.gz``) or ``"dicom"`` (a series in ``ct/``); the masks
            are NIfTI either way.
        spacing_mm: along left-right, front-back, head-foot; by default each scanner has its own.
        volumes_ml: of effusion, one after the other, and again from the start after the last.

    Raises:
        InputError: no case or no volume is asked for, or the format is neither of the two.
    """

    root: str | Path
    n_cases: int = 10
    seed: int = 0
    image_format: str = "nifti"
    spacing_mm: Sequence[float] | None = None
    volumes_ml: Sequence[float] = VOLUMES_ML

    def __post_init__(self) -> None:
        if self.image_format not in IMAGES:
            raise InputError(f"image_format is 'nifti' or 'dicom'; got {self.image_format!r}")
        if self.n_cases < 1:
            raise InputError(f"n_cases must be at least 1; got {self.n_cases}")
        if not self.volumes_ml:
            raise InputError("volumes_ml must name at least one; got none")

    @property
    def folder(self) -> Path:
        """Where studies of this setting lie."""
        spacing = None if self.spacing_mm is None else [float(s) for s in self.spacing_mm]
        setting: list[object] = [VERSION, self.seed, self.image_format, spacing]
        if (volumes_ml := [float(ml) for ml in self.volumes_ml]) != [*VOLUMES_ML]:
            setting.append(volumes_ml)
        key = hashlib.sha256(json.dumps(setting).encode()).hexdigest()[:8]
        return Path(self.root) / f"{self.image_format}_seed{self.seed}_{key}"

    def cases(self) -> list[Case]:
        """All cases in order of their names; studies that are not there yet are written first."""
        return [self._case(index) for index in range(self.n_cases)]

    def _case(self, index: int) -> Case:
        study = self.folder / f"phantom_{index:03d}"
        wanted_ml = self.volumes_ml[index % len(self.volumes_ml)]
        if not study.exists():
            print(f"Writing {study} ({index + 1} of {self.n_cases}, {wanted_ml} mL of fluid)")
            made = chest((self.seed, index), wanted_ml, spacing_mm=self.spacing_mm)
            write_folder(study, lambda folder: self._write(made, folder))
        return Case(
            name=study.name,
            patient=study.name,
            image=study / IMAGES[self.image_format],
            mask=study / "effusion.nii.gz",
            negative=wanted_ml == 0,
        )

    def _write(self, made: Chest, folder: Path) -> None:
        self._write_image(made, folder / IMAGES[self.image_format], folder.name)
        nifti.write(made.effusion, folder / "effusion.nii.gz")
        (folder / "truth.json").write_text(json.dumps(_truth(made), indent=2) + "\n")

    def _write_image(self, made: Chest, path: Path, patient: str) -> None:
        if self.image_format == "nifti":
            nifti.write(made.scan, path)
            return
        from pleural.io import dicom  # pydicom is only loaded for who needs it

        # The UIDs follow from both names, and another seed's phantom is another patient.
        name = f"{patient}_seed{self.seed}"
        dicom.write_series(made.scan, path, patient_id=name, description="pleural phantom")


def _truth(made: Chest) -> dict[str, object]:
    volumes = {"volume_ml": made.volume_ml, "right_ml": made.right_ml, "left_ml": made.left_ml}
    return {name: round(ml, 3) for name, ml in volumes.items()} | {"contents": made.contents}
