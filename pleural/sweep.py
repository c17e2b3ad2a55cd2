"""What a sweep (`python run.py -m ...`) needs beyond its jobs: names, a table.

A search needs the rest: how a setting is typed, and what was typed taken apart.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pleural.io.whole import read_json, write_table

MOST_CHARACTERS = 150  # of a job's folder; file systems allow 255 bytes
FAILED = "failed"
REASON = "failed.txt"  # in the folder of a job that did
RESULTS = ("dice", "epoch", "folder", "reason")
IN_NO_NAME = re.compile(r'[\\/:*?"<>|]')  # of a folder, here or on Windows


def short(name: str) -> str:
    """``name`` as that of one folder; of a long one the beginning and a number of its own.

    >>> short("loss.pos_weight-3"), len(short("fold-0_" * 100))
    ('loss.pos_weight-3', 150)
    >>> short("trainer.max_time-00:00:15:00")
    'trainer.max_time-00-00-15-00'
    """
    name = IN_NO_NAME.sub("-", name)
    if len(name) <= MOST_CHARACTERS:
        return name
    number = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: MOST_CHARACTERS - 13]}_{number}"


def quoted(text: str | Path) -> str:
    """As Hydra's grammar takes any text.

    Within quotes it takes backslashes as they are, but for those before a quote.

    >>> print(quoted("it's in C:\\\\ä\\\\"))
    'it\\'s in C:\\ä\\\\'
    """
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), str(text))
    return f"'{escaped}'"


def taken_apart(override: str) -> tuple[str, Any] | None:
    """The key of what was typed and its value; ``None`` of what takes away, or goes elsewhere.

    >>> taken_apart("loss.pos_weight=3"), taken_apart("experiment=[a,b]"), taken_apart("~start")
    (('loss.pos_weight', 3), ('experiment', ['a', 'b']), None)
    """
    (parsed,) = OverridesParser.create().parse_overrides([override])
    if parsed.is_delete() or parsed.package is not None:
        return None
    return parsed.key_or_group, parsed.value()


class Table(Callback):
    """Reads the run folders of a sweep and writes ``sweep.csv`` beside them.

    It reads files rather than listens to the jobs, which other launchers run in other processes.
    """

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        jobs = sorted(folder.rglob(".hydra/overrides.yaml"), key=lambda path: path.stat().st_mtime)
        rows = [_row(overrides) for overrides in jobs]
        if rows and config.hydra.runtime.choices.task == "train":  # others write their own tables
            write_table(folder / "sweep.csv", rows)
            print(f"\n{_as_text(rows)}\n\nwritten to {folder / 'sweep.csv'}")
        own = [row["dice"] for row, job in zip(rows, jobs, strict=True) if _is_of(folder, job)]
        if failed := own.count(FAILED):
            print(
                f"{failed} of {len(own)} jobs failed; the same command with name={folder.name} "
                "tries them again and keeps the others",
                file=sys.stderr,
            )
            raise SystemExit(2)


def _is_of(sweep: Path, overrides: Path) -> bool:
    """Whether the command that ends had this job; others may have had a sweep of this name before.

    By the clock of the machine that holds the files: Hydra writes ``multirun.yaml`` as it begins,
    and a job's overrides, or else we its reason, later.
    """
    began = sweep / "multirun.yaml"
    reason = overrides.parent.parent / REASON
    written = max(path.stat().st_mtime_ns for path in (overrides, reason) if path.exists())
    return not began.exists() or written >= began.stat().st_mtime_ns


def _row(overrides: Path) -> dict[str, str]:
    """A job's overrides, its Dice (``FAILED`` where it came to no end) and its folder."""
    folder = overrides.parent.parent
    typed = [str(override) for override in OmegaConf.load(overrides) if "=" in str(override)]
    row = dict(override.lstrip("+").split("=", 1) for override in typed)
    reason, record = folder / REASON, read_json(folder / "run.json") or {}
    trains = row.get("task", "train") == "train"
    told = reason.read_text(encoding="utf-8") if reason.exists() else ""
    if told or (trains and "dice" not in record):
        dice, told = FAILED, told or "ended without a word"
    else:
        dice = "" if record.get("dice") is None else f"{record['dice']:.4f}"
    epoch = str(record.get("best_epoch", ""))
    results = {"dice": dice, "epoch": epoch, "folder": folder.name, "reason": told.strip()}
    return {**row, **results}


def _as_text(rows: list[dict[str, str]]) -> str:
    """The columns that differ between the jobs, and what came out."""
    typed = [c for c in dict.fromkeys(c for row in rows for c in row) if c not in RESULTS]
    differ = [c for c in typed if len({row.get(c) for row in rows}) > 1]
    columns = [*(differ or typed), "dice", "epoch"]
    lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
