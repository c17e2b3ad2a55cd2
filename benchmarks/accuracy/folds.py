"""Trainings on folds of PleThora, all of one budget, each scan judged by its own fold.

Every training keeps its last (averaged) weights, `keep=last`: had validation chosen the epoch, each
scan would have had a say in what judges it. Runs that finished are not repeated, so a script that
was stopped goes on; with a ledger, not even where their folders are gone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from pleural.data.case import Case
from pleural.statistics import Estimate, mean
from pleural.sweep import quoted
from pleural.trained import Run

ROOT = Path(__file__).resolve().parents[2]

Asked = tuple[Path, int, Sequence[str]]  # folder for a run folder of each fold, seed, settings


Line = dict[str, Any]


def lines_in(path: Path) -> list[Line]:
    """Of a file that holds one JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def append(path: Path, line: Line) -> None:
    """To such a file, which may not be there yet."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(line)}\n")


@dataclass(frozen=True)
class Ledger:
    """What was measured, a fold a line, kept beside the scripts: some tables take days.

    A line is known by its budget, fold, seed and settings, not by the code, which it names: begin a
    new one where the code changed what a training gives.
    """

    path: Path | None

    def find(self, asked: Sequence[str]) -> dict[str, Any] | None:
        """The record of what was asked for, if it was measured."""
        if self.path is None or not self.path.exists():
            return None
        for line in lines_in(self.path):
            if line["asked"] == [*asked]:
                record: dict[str, Any] = line["record"]
                return record
        return None

    def add(self, asked: Sequence[str], record: dict[str, Any]) -> None:
        if self.path is None:
            return
        kept = {key: record[key] for key in ("versions", "precision", "patches", "seconds")}
        append(self.path, {"asked": [*asked], "record": {**kept, "cases": record["cases"]}})


@dataclass(frozen=True)
class Trainings:
    """What all trainings of a comparison share.

    Args:
        root: folder of the scans, as for data=plethora.
        folds: of ``n_folds`` those that are trained.
        budget: settings of how long each training is; none: as the experiment has it.
        jobs: trainings at a time, each with its share of the cores.
        ledger: of what was measured before.
    """

    root: str
    n_folds: int
    folds: Sequence[int]
    budget: Sequence[str]
    jobs: int = 1
    ledger: Ledger = field(default_factory=lambda: Ledger(None))

    def run(self, *asked: Asked) -> Iterator[list[dict[str, Any]]]:
        """Of each of ``asked``, the records of its folds.

        ``jobs`` trainings are under way until the last is begun, whichever of ``asked`` they are
        of. Where one fails, those under way end, and no further one begins.
        """
        pool = ThreadPoolExecutor(self.jobs)
        try:
            queued = [[pool.submit(self._fold, fold, *of) for fold in self.folds] for of in asked]
            for folds in queued:
                yield [fold.result() for fold in folds]
        finally:
            pool.shutdown(cancel_futures=True)

    def _fold(self, fold: int, folders: Path, seed: int, settings: Sequence[str]) -> dict[str, Any]:
        folder = folders / f"fold-{fold}"
        choice = [f"n_folds={self.n_folds}", f"fold={fold}", f"seed={seed}"]
        choice += [*self.budget, *settings]
        known = self.ledger.find(choice)
        if known is not None:
            return known
        command = [
            *(
                sys.executable,
                str(ROOT / "run.py"),
                "data=plethora",
                f"data.root={quoted(self.root)}",
            ),
            *(
                f"hydra.run.dir={quoted(folder)}",
                "keep=last",
                "trainer.enable_progress_bar=false",
                *choice,
            ),
        ]
        threads = str(max(1, (os.cpu_count() or 1) // self.jobs))
        subprocess.run(
            command, check=True, stdout=sys.stderr, env={**os.environ, "OMP_NUM_THREADS": threads}
        )
        record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        self.ledger.add(choice, record)
        return record


def config(settings: Sequence[str]) -> DictConfig:
    """The default's, with ``settings``, for scans that are prepared already."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", ["data=plethora", "data.root=none", *settings])


def held_out(run: Run, cases: Mapping[str, Case]) -> Iterator[Case]:
    """Those of the cases, by name, that a fold did not train on."""
    for entry in run.record["split"]["validation"]:
        yield cases[entry["name"]]


def by_minutes(minutes: int) -> list[str]:
    """A budget for :class:`Trainings`."""
    return [f"trainer.max_time=00:{minutes // 60:02d}:{minutes % 60:02d}:00"]


def by_case(records: Sequence[dict[str, Any]], value: str = "dice") -> dict[str, float]:
    """One number of every scan, from the fold that held it out."""
    found = {case["name"]: case[value] for record in records for case in record["cases"]}
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Summary:
    """Dice over scans, each of its own patient, and over seeds."""

    dice: Estimate  # of each scan's mean over the seeds
    of_seed: np.ndarray
    volume_error: float  # median, as a share of the reference

    @property
    def interval(self) -> str:
        low, high = self.dice.low, self.dice.high
        return "" if low is None else f" [{low:.3f}, {high:.3f}]"

    @property
    def told(self) -> str:
        """The mean with its interval and, of several seeds, their least and greatest."""
        seeds = self.of_seed
        spread = f" ({seeds.min():.3f} to {seeds.max():.3f})" if len(seeds) > 1 else ""
        return f"**{self.dice.value:.3f}**{self.interval}{spread}"


def summary(dice: np.ndarray, predicted_ml: np.ndarray, reference_ml: np.ndarray) -> Summary:
    """Each argument: seeds, scans."""
    patients = [str(scan) for scan in range(dice.shape[1])]
    error = float(np.median(np.abs(predicted_ml / reference_ml - 1)))
    return Summary(mean(dice.mean(axis=0), patients, bounds=(0, 1)), dice.mean(axis=1), error)


def budget_of(records: Sequence[dict[str, Any]]) -> str:
    """How long the trainings of ``records`` were, in words."""
    patches = ", ".join(sorted({str(record["patches"]) for record in records}))
    took = max(record["seconds"]["train"] for record in records) / 60
    return f"{patches} patches (up to {took:.0f} minutes)"


def made_with(records: Sequence[dict[str, Any]]) -> str:
    """Machine, versions and code, for below a table; each of them, where records differ."""
    told = [
        f"{about['machine']}, {record['precision']}, torch {about['torch']}, MONAI "
        f"{about['monai']}, Python {about['python']}; code {about['code'][:10]}"
        for record in records
        for about in [record["versions"]]
    ]
    return " / ".join(dict.fromkeys(told))
