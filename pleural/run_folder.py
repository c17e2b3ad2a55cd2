"""A training run on disk: what was trained defines what is predicted."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pleural.errors import InputError, first_line
from pleural.io.whole import read_json, write_json, write_table, write_whole

CONFIG = ".hydra/config.yaml"  # the whole configuration; Hydra writes it
PACKAGES = ("pleural", "torch", "monai", "pytorch-lightning", "hydra-core", "numpy", "nibabel")


class RunFolder:
    """The files of one run (see docs/tour.md for what each holds)."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.best = self.path / "best.pt"
        self.last = self.path / "last.ckpt"
        self.metrics = self.path / "metrics.csv"
        self.record = self.path / "run.json"
        self.dice_curve = self.path / "dice.png"
        self.validation_slices = self.path / "validation.png"

    def save_best(self, weights: Mapping[str, torch.Tensor], **about: float | int | None) -> None:
        """Weights and plain values only: loads without running any code."""
        content = {"weights": {k: v.detach().cpu() for k, v in weights.items()}, **about}
        write_whole(self.best, lambda path: torch.save(content, path))

    def load_best(self) -> dict[str, Any]:
        """``weights`` by name, and what was saved about them.

        Raises:
            InputError: the file is damaged, or holds more than tensors and plain values.
        """
        try:
            content = torch.load(self.best, map_location="cpu", weights_only=True)
            return {**content, "weights": dict(content["weights"])}
        except Exception as error:  # a torn file makes torch's reader stumble over anything
            raise InputError(
                f"{self.best}: the weights cannot be read: damaged, or more than tensors and plain"
                f" values ({first_line(error)})"
            ) from error

    def save_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """A row an epoch; a number that an epoch did not measure is left empty."""
        write_table(self.metrics, rows)

    def load_record(self) -> dict[str, Any] | None:
        return read_json(self.record)

    def save_record(self, record: Mapping[str, Any]) -> None:
        write_json(self.record, record)


def validation_chose(record: Mapping[str, Any]) -> bool:
    """Whether validation chose the epoch that a run kept, rather than the last one being kept."""
    return bool(record.get("kept") != "last")


def versions() -> dict[str, str]:
    """Of Python, the machine and what decides a result."""
    found = {package: version(package) for package in PACKAGES}
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        **found,
        "code": code_version(),
    }


def code_version() -> str:
    """The commit this code is at, ``+changes`` where files differ from it, or ``no git``."""
    here = Path(__file__).parent
    try:
        commit, changes = (
            subprocess.run(["git", *command], cwd=here, capture_output=True, text=True, check=True)
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError):  # installed from a wheel, or no git here
        return "no git"
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
