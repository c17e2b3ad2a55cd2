"""Trainings on folds of PleThora, each for as long, each scan judged by its own fold.

Every training keeps its last (averaged) weights, `keep=last`: had validation chosen the epoch, each
scan would have had a say in what judges it. Runs that finished are not repeated, so a script that
was stopped goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
POOR_MASKS = ("LUNG1-005", "LUNG1-013")  # incomplete; half of it outside the range of fluid


@dataclass(frozen=True)
class Trainings:
    """What all trainings of a comparison share.

    Args:
        root: folder of the scans, as for data=plethora.
        folds: of ``n_folds`` those that are trained.
        minutes: of training, for each fold; ``None``: as many epochs as the experiment has.
        jobs: trainings at a time, each with its share of the cores.
    """

    root: str
    n_folds: int
    folds: Sequence[int]
    minutes: int | None
    jobs: int = 1

    def run(self, folders: Path, seed: int, settings: Sequence[str]) -> list[dict[str, Any]]:
        """The record of each fold, trained into a folder of its own below ``folders``."""
        with ThreadPoolExecutor(self.jobs) as pool:
            return list(
                pool.map(
                    lambda fold: self._fold(folders / f"fold-{fold}", fold, seed, settings),
                    self.folds,
                )
            )

    def _fold(self, folder: Path, fold: int, seed: int, settings: Sequence[str]) -> dict[str, Any]:
        command = [
            *(sys.executable, str(ROOT / "run.py"), "data=plethora", f"data.root={self.root}"),
            *(f"n_folds={self.n_folds}", f"fold={fold}", f"seed={seed}", "keep=last"),
            *(f"hydra.run.dir={folder}", "trainer.enable_progress_bar=false", *settings),
        ]
        if self.minutes is not None:
            command.append(f"trainer.max_time=00:00:{self.minutes:02d}:00")
        threads = str(max(1, (os.cpu_count() or 1) // self.jobs))
        subprocess.run(
            command, check=True, stdout=sys.stderr, env={**os.environ, "OMP_NUM_THREADS": threads}
        )
        record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return record


def by_case(records: Sequence[dict[str, Any]], value: str = "dice") -> dict[str, float]:
    """One number of every scan, from the fold that held it out."""
    found = {case["name"]: case[value] for record in records for case in record["cases"]}
    return dict(sorted(found.items()))


def budget_of(minutes: int | None, records: Sequence[dict[str, Any]]) -> str:
    """How long the trainings of ``records`` were, in words."""
    if minutes is not None:
        return f"{minutes} minutes"
    patches = ", ".join(sorted({str(record["patches"]) for record in records}))
    took = max(record["seconds"]["train"] for record in records) / 60
    return f"{patches} patches (up to {took:.0f} minutes)"


def made_with(record: dict[str, Any]) -> str:
    """Machine, versions and code, for below a table."""
    about = record["versions"]
    return (
        f"{about['machine']}, torch {about['torch']}, MONAI {about['monai']}, Python "
        f"{about['python']}; code {about['code']}"
    )
