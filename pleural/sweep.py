"""What a sweep (`python run.py -m ...`) needs beyond its jobs: names, processes, a table."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pleural.io.whole import read_json, write_table

MOST_CHARACTERS = 150  # of a job's folder; file systems allow 255 bytes
FAILED = "failed"
RESULTS = ("dice", "best_epoch", "folder")


def short(name: str) -> str:
    """``name``, or of a long one the beginning and a number that no other is likely to have.

    >>> short("loss.pos_weight-3"), len(short("fold-0_" * 100))
    ('loss.pos_weight-3', 150)
    """
    if len(name) <= MOST_CHARACTERS:
        return name
    number = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: MOST_CHARACTERS - 13]}_{number}"


def in_process_of_its_own(script: Path) -> float:
    """The job that Hydra just began, as `python run.py` of its own; its Dice, NaN if it failed.

    For trainings by several processes: their group can be founded once in a process, and each
    starts the others by the command it was started with, which here is the whole sweep's.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    place = f"hydra.run.dir={quoted(folder)}"
    done = subprocess.run([sys.executable, str(script), *hydra.overrides.task, place])
    record = read_json(folder / "run.json") or {}
    dice = record.get("dice") if done.returncode == 0 else None
    return math.nan if dice is None else float(dice)


def quoted(path: Path) -> str:
    """As Hydra's grammar takes any path."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class Table(Callback):
    """Reads the run folders of a sweep and writes ``sweep.csv`` beside them.

    It reads files rather than listens to the jobs, which other launchers run in other processes.
    """

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        if config.hydra.runtime.choices.task != "train":
            return  # other tasks write tables of their own
        folder = Path(config.hydra.sweep.dir)
        jobs = sorted(folder.rglob(".hydra/overrides.yaml"), key=lambda path: path.stat().st_mtime)
        if jobs:
            rows = [_row(overrides) for overrides in jobs]
            write_table(folder / "sweep.csv", rows)
            print(f"\n{_as_text(rows)}\n\nwritten to {folder / 'sweep.csv'}")
            if failed := sum(row["dice"] == FAILED for row in rows):
                print(
                    f"{failed} of {len(rows)} jobs failed; the same command with "
                    f"name={folder.name} tries them again and keeps the others",
                    file=sys.stderr,
                )
                raise SystemExit(2)


def _row(overrides: Path) -> dict[str, str]:
    """A job's overrides, its best Dice (``FAILED`` where it came to none) and its folder."""
    folder = overrides.parent.parent
    typed = [str(override) for override in OmegaConf.load(overrides) if "=" in str(override)]
    row = dict(override.lstrip("+").split("=", 1) for override in typed)
    record = folder / "run.json"
    result = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    if "dice" not in result:
        return {**row, "dice": FAILED, "best_epoch": "", "folder": folder.name}
    dice = "" if result["dice"] is None else f"{result['dice']:.4f}"
    return {**row, "dice": dice, "best_epoch": str(result["best_epoch"]), "folder": folder.name}


def _as_text(rows: list[dict[str, str]]) -> str:
    """The columns that differ between the jobs, and what came out."""
    typed = [c for c in dict.fromkeys(c for row in rows for c in row) if c not in RESULTS]
    differ = [c for c in typed if len({row.get(c) for row in rows}) > 1]
    columns = [*(differ or typed), "dice", "best_epoch"]
    lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
