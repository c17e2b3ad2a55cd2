"""A training run on disk: what was trained defines what is predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pleural.errors import InputError, first_line
from pleural.io.whole import read_json, write_json, write_table, write_whole

CONFIG = ".hydra/config.yaml"  # the whole configuration; Hydra writes it
WEIGHTS_IN = {"best.pt": "weights", "last.ckpt": "state_dict"}  # ours; Lightning's


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

    @property
    def holds_weights(self) -> bool:
        """Whether a training has kept something here."""
        return self.best.exists() or self.last.exists()

    def save_best(self, weights: Mapping[str, torch.Tensor], **about: float | int | None) -> None:
        """Weights and plain values only: loads without running any code."""
        content = {"weights": {k: v.detach().cpu() for k, v in weights.items()}, **about}
        save_tensors(content, self.best)

    def load_best(self) -> dict[str, Any]:
        """``weights`` by name, and what was saved about them.

        Raises:
            InputError: the file is damaged, or holds more than tensors and plain values.
        """
        content = self._load(self.best)
        return {**content, "weights": dict(content["weights"])}

    def check_last(self) -> None:
        """That a training can go on from its last epoch.

        Raises:
            InputError: the file is damaged, or holds more than tensors and plain values.
        """
        self._load(self.last)

    def _load(self, file: Path) -> dict[str, Any]:
        try:
            content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            content[WEIGHTS_IN[file.name]].keys()
            return content
        except Exception as error:  # a torn file makes torch's reader stumble over anything
            raise InputError(
                f"{file}: cannot be read: damaged, or more than tensors and plain values "
                f"({first_line(error)}); copy it anew, or move the folder away and train again"
            ) from error

    def save_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """A row an epoch; a number that an epoch did not measure is left empty."""
        write_table(self.metrics, rows)

    def load_record(self) -> dict[str, Any] | None:
        return read_json(self.record)

    def save_record(self, record: Mapping[str, Any]) -> None:
        write_json(self.record, record)


def save_tensors(content: Mapping[str, Any], path: Path) -> None:
    """Tensors and plain values, as :func:`torch.save` does, as a file that is whole or not there.

    Raises:
        OSError: the disk is full, or gone.
    """

    def write(partial: Path) -> None:
        try:
            with partial.open("wb") as file:
                torch.save(content, file)
        except RuntimeError as error:  # torch's writer stumbles over what the disk said
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    write_whole(path, write)


def validation_chose(record: Mapping[str, Any]) -> bool:
    """Whether validation chose the epoch that a run kept, rather than the last one being kept."""
    return bool(record.get("kept") != "last")
