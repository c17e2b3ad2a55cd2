"""The training loop: what happens in a step, and the task around it."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DeepSupervisionLoss
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, Timer
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from pleural.data.case import Case
from pleural.data.split import Split
from pleural.dataset import Patches, Sample
from pleural.dice import dice
from pleural.errors import InputError
from pleural.hardware import convolutions_with_wrong_gradients
from pleural.history import Clock, History
from pleural.judgement import described, judge, mean_dice, summary
from pleural.model import channels_last
from pleural.run_folder import RunFolder, versions
from pleural.segmenter import Inferer, Segmenter
from pleural.volume import Volume


class Training(LightningModule):
    """What happens in a step and in a validation.

    Shapes: patches ``(B, 1, X, Y, Z)``, validation volumes ``(1, 1, X, Y, Z)``.

    Args:
        optimizer: from parameters to an optimizer.
        schedule: from the share of the training that is done (0 to 1) to a factor on the rate.
        inferer: runs the network over a whole volume.
        threshold: probability from which a voxel is effusion.
        ema_decay: validate and keep a running average of the weights, which forgets at this rate
            a step; ``None``: the weights themselves.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],
        inferer: Inferer,
        threshold: float,
        ema_decay: float | None,
    ) -> None:
        super().__init__()
        self.net = channels_last(net)
        self.average = None
        if ema_decay is not None:
            averaging = partial(_forgetting_average, ema_decay)
            self.average = AveragedModel(net, avg_fn=averaging, use_buffers=True)
            self.average.requires_grad_(False)
        self.loss = DeepSupervisionLoss(loss)
        self.optimizer = optimizer
        self.schedule = schedule
        self.inferer = inferer
        self.logit_threshold = math.log(threshold / (1 - threshold))
        self.dice_of_case: dict[str, float] = {}

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.net if self.average is None else self.average.module

    @property
    def mean_dice(self) -> float:
        """Of the last validation, over its cases with effusion."""
        return float(np.mean([*self.dice_of_case.values()]))

    def training_step(self, batch: Sample, _: int) -> Tensor:
        label = batch["label"]
        logits = self.net(batch["image"].contiguous(memory_format=torch.channels_last_3d))
        loss: Tensor = self.loss(logits, label)
        finest = logits if isinstance(logits, Tensor) else logits[0]
        overlap = dice(finest.detach().float().sigmoid(), label)
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        for name, value in (("train/loss", loss.detach()), ("train/dice", overlap)):
            self.log(name, value, on_step=False, on_epoch=True, batch_size=len(label))
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        if self.average is not None:
            self.average.update_parameters(self.net)

    def on_train_epoch_start(self) -> None:
        self.dice_of_case = {}

    def validation_step(self, batch: Sample, _: int) -> dict[str, Tensor]:
        logits = self.inferer(batch["image"].float(), self.judged)
        prediction, reference = logits >= self.logit_threshold, batch["label"] >= 0.5
        if reference.any():
            self.dice_of_case[batch["name"][0]] = dice(prediction, reference)
        return {"prediction": prediction, "reference": reference}

    def on_validation_epoch_end(self) -> None:
        self.dice_of_case = _over_all_processes(self.dice_of_case)
        self.log("val/dice", self.mean_dice, prog_bar=True, rank_zero_only=True)
        for name, value in self.dice_of_case.items():
            self.log(f"val/dice/{name}", value, rank_zero_only=True)
        if hasattr(self.schedule, "observe"):
            self.schedule.observe(self.mean_dice)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.net.parameters())
        scheduler = LambdaLR(optimizer, lambda _: self.schedule(self.progress()))
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def progress(self) -> float:
        """Share of the budget that is spent, in steps or in time, whichever is further."""
        done = self.global_step / self.trainer.estimated_stepping_batches
        for timer in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(timer, Timer) and (left := timer.time_remaining()) is not None:
                spent = timer.time_elapsed()
                done = max(done, spent / max(spent + left, 1e-9))
        return min(1.0, done)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["schedule"] = dict(vars(self.schedule))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        vars(self.schedule).update(checkpoint["schedule"])


def train(
    data: Any,
    split: Callable[[Sequence[Case]], Split],
    preprocess: Callable[[Volume], Volume],
    dataset: Patches,
    augmentation: Callable[[Sample], Sample],
    model: nn.Module,
    loss: nn.Module,
    optimizer: Callable[..., Optimizer],
    scheduler: Callable[[float], float],
    trainer: Callable[..., Trainer],
    logger: Logger,
    inference: Inferer,
    threshold: float,
    ema_decay: float | None,
    patience: int | None,
    run_dir: str | Path,
    seed: int,
) -> float:
    """Train on one fold, keep the best epoch by validation Dice, and judge it on the scans.

    Args:
        data: has ``cases()``.
        patience: stop after so many validations without a better Dice; ``None``: never.
        run_dir: gets everything; an earlier run's is gone on with, from its last epoch.

    Returns:
        The best epoch's mean Dice over the validation cases with effusion, on the scans' own
        grids; NaN where every case trains.

    Raises:
        InputError: bad cases (all of them in one list), or a batch that does not fit in memory.
    """
    run = RunFolder(run_dir)
    clock = Clock()
    parts = split(data.cases())
    print(parts)
    _check_validates(parts)
    batches, volumes = dataset.loaders(parts.training, parts.validation, preprocess, augmentation)
    clock.lap("prepare")
    module = Training(model, loss, optimizer, scheduler, inference, threshold, ema_decay)
    history = History(run, validates=bool(parts.validation))
    callbacks = [history, ModelCheckpoint(run.path, "last", enable_version_counter=False)]
    if patience is not None and parts.validation:
        callbacks.append(EarlyStopping("val/dice", mode="max", patience=patience))
    fitter = trainer(callbacks=callbacks, logger=logger, default_root_dir=run.path)
    _check_gradients(fitter, model, dataset.patch_size)
    finished = _fit(fitter, module, batches, volumes if parts.validation else None, run)
    clock.lap("train")
    best = run.load_best()
    model.load_state_dict(best["weights"])
    device = fitter.strategy.root_device
    segmenter = Segmenter(model, preprocess, inference, dataset.patch_size, threshold, device)
    scores = judge(segmenter, parts.validation)
    clock.lap("judge")
    run.save_record(
        {
            "versions": versions(),
            "seed": seed,
            "precision": str(fitter.precision),
            "finished": finished,
            "best_epoch": best["epoch"],
            "epochs": len(history.rows),
            "dice": mean_dice(scores),
            "cases": [asdict(score) for score in scores],
            "split": described(parts),
            "seconds": clock.seconds,
        }
    )
    print(summary(run, best["epoch"], len(history.rows), scores))
    if not finished:
        raise SystemExit(130)  # what a shell says of a program that Ctrl-C ended
    return mean_dice(scores)


def _check_validates(parts: Split) -> None:
    if parts.validation and not any(case.volume_ml > 0 for case in parts.validation):
        names = ", ".join(case.name for case in parts.validation)
        raise InputError(
            f"no validation case has effusion ({names}), so no epoch would be best: "
            "choose another fold or name the cases in split.validation"
        )


def _check_gradients(trainer: Trainer, net: nn.Module, patch_size: Sequence[int]) -> None:
    if trainer.strategy.root_device.type != "cpu" or str(trainer.precision) != "bf16-mixed":
        return
    wrong = convolutions_with_wrong_gradients(net, patch_size)
    if wrong:
        raise InputError(
            f"patches of {tuple(patch_size)} leave {len(wrong)} convolutions ({wrong[0]}, ...) a "
            "first size of 2, where this processor's bf16 gradients are wrong: choose a larger "
            "patch_size along X, or trainer.precision=32-true"
        )


def _fit(
    trainer: Trainer,
    module: Training,
    batches: DataLoader,
    volumes: DataLoader | None,
    run: RunFolder,
) -> bool:
    """Whether the training ended by itself; ``False``: Ctrl-C ended it after a first validation."""
    checkpoint = run.last if run.last.exists() else None
    try:
        trainer.fit(module, batches, volumes, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C; it ignores further ones from then on
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not run.best.exists():
            message = f"stopped before the first validation: nothing to keep in {run.path}"
            raise InputError(message) from None
        return False
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise InputError(
            f"a training batch does not fit into memory ({str(error).splitlines()[0]}): lower "
            "dataset.crops_per_case, dataset.cases_per_batch or patch_size"
        ) from error
    return True


def _forgetting_average(decay: float, average: Tensor, current: Tensor, n: Tensor | int) -> Tensor:
    """Exponential moving average that forgets faster at first, when it still holds noise."""
    decay = min(decay, (1 + float(n)) / (10 + float(n)))
    return average + (1 - decay) * (current - average)


def _over_all_processes(dices: dict[str, float]) -> dict[str, float]:
    """One process' cases and all the others', the same everywhere."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return dices
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, dices)
    return {name: value for part in gathered for name, value in part.items()}
