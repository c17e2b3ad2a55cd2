"""What a sweep (`python run.py -m ...`) ends with: a table of overrides against best Dice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pleural.io.whole import write_table


class Table(Callback):
    """Reads the run folders of a sweep and writes ``sweep.csv`` beside them.

    It reads files rather than listens to the jobs, which other launchers run in other processes.
    """

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        rows = [_row(file) for file in sorted(folder.rglob(".hydra/overrides.yaml"), key=_age)]
        if not rows:
            return
        columns = write_table(folder / "sweep.csv", rows)
        print(f"\n{_as_text(rows, columns)}\n\nwritten to {folder / 'sweep.csv'}")


def _age(overrides: Path) -> float:
    return overrides.stat().st_mtime


def _row(overrides: Path) -> dict[str, str]:
    """A job's overrides, its best Dice (``failed`` where it wrote none) and its folder."""
    folder = overrides.parent.parent
    pairs = [override.split("=", 1) for override in OmegaConf.load(overrides)]
    row = {key.lstrip("+"): value for key, value in pairs}
    record = folder / "run.json"
    if not record.exists():
        return {**row, "dice": "failed", "best_epoch": "", "folder": folder.name}
    result = json.loads(record.read_text(encoding="utf-8"))
    dice = result["dice"]
    shown = "" if dice is None or math.isnan(dice) else f"{dice:.4f}"
    return {
        **row,
        "dice": shown,
        "best_epoch": str(result["best_epoch"]),
        "folder": folder.name,
    }


def _as_text(rows: list[dict[str, str]], columns: list[str]) -> str:
    columns = [column for column in columns if column != "folder"]
    lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
