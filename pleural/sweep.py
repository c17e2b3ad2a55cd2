"""What a sweep (`python run.py -m ...`) ends with: a table of overrides against best Dice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pleural.io.whole import write_table

RESULTS = ("dice", "best_epoch", "folder")


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


def _row(overrides: Path) -> dict[str, str]:
    """A job's overrides, its best Dice (``failed`` where it came to none) and its folder."""
    folder = overrides.parent.parent
    typed = [str(override) for override in OmegaConf.load(overrides) if "=" in str(override)]
    row = dict(override.lstrip("+").split("=", 1) for override in typed)
    record = folder / "run.json"
    result = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    if "dice" not in result:
        return {**row, "dice": "failed", "best_epoch": "", "folder": folder.name}
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
