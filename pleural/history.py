"""What happened in each epoch, written as it happens."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from pleural.data.split import Split
from pleural.errors import InputError
from pleural.figures import Slice, contours, dice_curve
from pleural.io.whole import write_whole
from pleural.run_folder import RunFolder

AVERAGED = ("loss", "dice")  # over the steps of an epoch
MOST_SLICES = 8  # cases in the picture of the validation


class History(Callback):
    """Keeps a row an epoch, the best weights and the pictures, and writes them at once.

    The module it watches has ``judged`` (the network that is validated), ``dice_of_case`` of the
    epoch's validation and their ``mean_dice``, and ``halving``: whether its last patches were seen
    at half their resolution.

    Args:
        split: of the cases.
        chooses: the best epoch by validation; otherwise the last weights are kept as the best.
    """

    def __init__(self, run: RunFolder, split: Split, chooses: bool) -> None:
        self.run = run
        parts = {"training": split.training, "validation": split.validation}
        self.split = {part: [case.name for case in cases] for part, cases in parts.items()}
        self.chooses = chooses
        self.rows: list[dict[str, Any]] = []
        self.best_epoch: int | None = None
        self.best_dice = -1.0
        self.slices: list[Slice] = []
        self.started = time.perf_counter()

    @property
    def minutes(self) -> float:
        """Of training, until the end of the last epoch, those of earlier sessions among them."""
        return float(self.rows[-1]["minutes"]) if self.rows else 0.0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.started = time.perf_counter() - 60 * self.minutes

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        for name in AVERAGED:  # or an epoch without a step would show those of the one before
            trainer.callback_metrics.pop(f"train/{name}", None)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.slices = []

    def on_validation_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if len(self.slices) < MOST_SLICES:
            name = batch["name"][0]
            masks = outputs["prediction"][0, 0].cpu(), outputs["reference"][0, 0].cpu()
            image = batch["image"][0, 0].float().cpu()
            self.slices.append(_fullest_slice(name, image.numpy(), *(m.numpy() for m in masks)))

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        dice = module.mean_dice
        if trainer.is_global_zero and dice > self.best_dice:
            self.best_dice, self.best_epoch = dice, trainer.current_epoch
            self._save_best(module, val_dice=dice)
            self._show(trainer, contours(self.slices))

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        if not trainer.is_global_zero:
            return
        self.rows.append(
            {
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
                "minutes": round((time.perf_counter() - self.started) / 60, 3),
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                "halved": module.halving,
                **{f"train_{name}": _of_epoch(trainer, name) for name in AVERAGED},
                **_validation_columns(module),
            }
        )
        if not self.chooses:
            self.best_epoch = trainer.current_epoch
            self._save_best(module, val_dice=None)
        self.run.save_metrics(self.rows)
        figure = dice_curve(self.rows, self.best_epoch)
        write_whole(self.run.dice_curve, figure.savefig)

    def state_dict(self) -> dict[str, Any]:
        kept = ("split", "rows", "best_epoch", "best_dice")
        return {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["split"] != self.split:
            raise InputError(
                f"{self.run.path} holds a training on other cases ({state['split']}): to go on "
                "with it, give it the same data and fold; else name another run folder"
            )
        vars(self).update(state)

    def _save_best(self, module: Any, val_dice: float | None) -> None:
        self.run.save_best(module.judged.state_dict(), epoch=self.best_epoch, val_dice=val_dice)

    def _show(self, trainer: Trainer, figure: Figure) -> None:
        write_whole(self.run.validation_slices, figure.savefig)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("validation", figure, trainer.current_epoch)
            elif hasattr(logger, "log_image"):  # Weights & Biases
                logger.log_image("validation", [str(self.run.validation_slices)])


def _of_epoch(trainer: Trainer, name: str) -> float:
    """NaN for an epoch all of whose steps were skipped."""
    return float(trainer.callback_metrics.get(f"train/{name}", math.nan))


def _validation_columns(module: Any) -> dict[str, float]:
    """Empty for an epoch without a validation."""
    if not module.dice_of_case:
        return {}
    cases = {f"val_dice_{name}": value for name, value in module.dice_of_case.items()}
    return {"val_dice": module.mean_dice, **cases}


def _fullest_slice(
    name: str, image: np.ndarray, prediction: np.ndarray, reference: np.ndarray
) -> Slice:
    """The axial slice with most effusion in the reference, or else in the prediction.

    Counted from the feet of the prepared volume, which may have other slices than the study.
    """
    z = int(np.argmax((reference if reference.any() else prediction).sum(axis=(0, 1))))
    return Slice(
        f"{name}, prepared slice {z + 1}", image[..., z], prediction[..., z], reference[..., z]
    )
