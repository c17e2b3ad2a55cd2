"""The training loop: what happens in a step and in a validation."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.losses import DeepSupervisionLoss
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import Timer
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from pleural.chance import seed_of
from pleural.dice import dice
from pleural.draws import rank_and_size
from pleural.errors import InputError, one_line
from pleural.loss import KnownOnly, known
from pleural.prepared import Sample
from pleural.trained import Inferer
from pleural.tuned import tuned

COARSE = (2, 2, 1)  # voxels of X, Y and Z that become one
MOST_SKIPPED_IN_A_ROW = 20
BAD_LOSS = (
    "what was kept before is whole; lower optimizer.lr, set trainer.precision=32-true, look at "
    "these cases (task=audit)"
)


class Training(LightningModule):
    """What happens in a step and in a validation.

    Shapes: patches ``(B, 1, X, Y, Z)``, validation volumes ``(1, 1, X, Y, Z)``.

    Args:
        optimizer: from parameters to an optimizer.
        schedule: from the share of the training that is done (0 to 1) to a factor on the rate.
        inferer: runs the network over a whole volume.
        threshold: probability from which a voxel is effusion.
        coarse_until: share of the training before which patches are halved in plane. Such steps
            take a third of the time, so more are made in it (progressive resizing, as in Tan & Le
            2021, arXiv 2104.00298).
        ema_decay: validate and keep a running average of the weights, of which this share is kept
            at every step; ``None``: the weights themselves.
        bad_loss: ``stop`` where a loss or its gradient is infinite or no number, or ``skip`` the
            step; after 20 such steps in a row the training stops.
        distrusted: names of cases whose Dice is told, but has no part in the mean.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],
        inferer: Inferer,
        threshold: float,
        coarse_until: float,
        ema_decay: float | None,
        bad_loss: str,
        distrusted: Collection[str] = (),
    ) -> None:
        super().__init__()
        if bad_loss not in ("stop", "skip"):
            raise InputError(f"bad_loss is stop or skip; got {bad_loss!r}")
        if not 0 < threshold < 1:
            raise InputError(f"threshold is a probability between 0 and 1; got {threshold}")
        if not 0 <= coarse_until <= 1:
            raise InputError(f"coarse_until is a share of the training, 0 to 1; got {coarse_until}")
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise InputError(f"ema_decay is a share below 1, or null; got {ema_decay}")
        self.net = tuned(net)
        self.average = None
        if ema_decay is not None:
            averaging = partial(forgetting_average, ema_decay)
            self.average = AveragedModel(net, multi_avg_fn=averaging, use_buffers=True)
            self.average.requires_grad_(False)
        self.loss = DeepSupervisionLoss(KnownOnly(loss))
        self.optimizer = optimizer
        self.schedule = schedule
        self.inferer = inferer
        self.logit_threshold = math.log(threshold / (1 - threshold))
        self.coarse_until = coarse_until
        self.bad_loss = bad_loss
        self.distrusted = frozenset(distrusted)
        self.halving = False  # patches, in the last step
        self.left_out = False  # the last step
        self.names: Sequence[str] = ()  # of the last step's cases
        self.patches = 0  # learnt from, by this process
        self.skipped_steps = 0
        self.skipped_in_a_row = 0
        self.seed = torch.initial_seed()
        self.dice_of_case: dict[str, float] = {}

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.net if self.average is None else self.average.module

    @property
    def mean_dice(self) -> float:
        """Of the last validation, over its trusted cases with effusion."""
        dices = [dice for name, dice in self.dice_of_case.items() if name not in self.distrusted]
        return float(np.mean(dices))

    def training_step(self, batch: Sample, _: int) -> Tensor | None:
        image, label = batch["image"], batch["label"]
        self.halving = self.progress() < self.coarse_until
        self.left_out, self.names = False, batch["name"]
        if self.halving:
            image, label = halved(image), halved(label)
        # Of a step that is left out nothing stays, and norms take their statistics on the way.
        before = [*map(torch.clone, self.net.buffers())] if self.bad_loss == "skip" else []
        logits = self.net(image.contiguous(memory_format=torch.channels_last_3d))
        loss: Tensor = self.loss(logits, label)
        if not loss.isfinite():
            self._refuse(f"the loss is {loss.item()}")
            for buffer, kept in zip(self.net.buffers(), before, strict=True):
                buffer.copy_(kept)
            return None  # for Lightning, no step
        finest = logits if isinstance(logits, Tensor) else logits[0]
        found, there = known(finest.detach().float(), label)
        overlap = dice(found.sigmoid(), there)
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        for name, value in (("train/loss", loss.detach()), ("train/dice", overlap)):
            self.log(
                name, value, on_step=False, on_epoch=True, batch_size=len(label), sync_dist=True
            )
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.trainer.precision == "16-mixed":  # whose scaler looks itself, and steps over some
            return
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not norm.isfinite():
            self._refuse(f"the norm of the loss's gradient is {norm.item()}")
            optimizer.zero_grad()  # none at all, so that nothing moves

    def _refuse(self, finding: str) -> None:
        told = f"{', '.join(self.names)}: {finding} in step {self.global_step}"
        if self.bad_loss == "stop":
            raise InputError(f"{told}: {BAD_LOSS}, or bad_loss=skip")
        if self.skipped_in_a_row == MOST_SKIPPED_IN_A_ROW:
            raise InputError(f"{told}, after {self.skipped_in_a_row} skipped in a row: {BAD_LOSS}")
        self.left_out = True
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        print(f"{told}: skipped", file=sys.stderr)

    def optimizer_step(self, *step: Any, **more: Any) -> None:
        super().optimizer_step(*step, **more)
        if self.left_out:
            return
        self.skipped_in_a_row = 0
        if self.average is not None:
            self.average.update_parameters(self.net)

    def on_train_batch_end(self, outputs: Any, batch: Sample, _: int) -> None:
        self.patches += 0 if self.left_out else len(batch["label"])

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(seed_of(self.seed, self.current_epoch, self.global_rank))  # for dropout
        self.dice_of_case = {}

    def validation_step(self, batch: Sample, _: int) -> dict[str, Tensor]:
        logits = self.inferer(batch["image"].float(), self.judged)
        prediction, label = logits >= self.logit_threshold, batch["label"]
        # An effusion that fills half of no voxel is where there is most of it.
        fullest = label.max().item()
        reference = (label >= min(0.5, fullest)) & (label > 0)
        if fullest > 0:
            self.dice_of_case[batch["name"][0]] = dice(prediction, reference)
        return {"prediction": prediction, "reference": reference}

    def on_validation_epoch_end(self) -> None:
        self.dice_of_case = _over_all_processes(self.dice_of_case)
        self.log("val/dice", self.mean_dice, prog_bar=True, rank_zero_only=True)
        for name, value in self.dice_of_case.items():
            self.log(f"val/dice/{name}", value, rank_zero_only=True)
        if hasattr(self.schedule, "observe") and not self.halving:
            self.schedule.observe(self.mean_dice)

    def configure_optimizers(self) -> Any:
        try:
            optimizer = self.optimizer(self.net.parameters())
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer: {one_line(error)}") from error
        scheduler = LambdaLR(optimizer, lambda _: self.schedule(self.progress()))
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def progress(self) -> float:
        """Share of the budget that is spent, in steps or in time, whichever is further."""
        done = self.global_step / self.trainer.estimated_stepping_batches
        for timer in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(timer, Timer) and (left := timer.time_remaining()) is not None:
                spent = timer.time_elapsed()
                done = max(done, spent / max(spent + left, 1e-9))
        # Each process has a clock of its own, and all must step at the same rate.
        return min(1.0, self.trainer.strategy.broadcast(done))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["schedule"] = dict(vars(self.schedule))
        checkpoint["counts"] = {"patches": self.patches, "skipped_steps": self.skipped_steps}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        vars(self.schedule).update(checkpoint["schedule"])
        vars(self).update(checkpoint["counts"])


def halved(patches: Tensor) -> Tensor:
    """``(B, 1, X, Y, Z)``, images or occupancies, at half their resolution in plane."""
    return avg_pool3d(patches, COARSE, ceil_mode=True)


def halved_size(patch_size: Sequence[int]) -> list[int]:
    return [-(-n // step) for n, step in zip(patch_size, COARSE, strict=True)]


def forgetting_average(
    decay: float, averages: Sequence[Tensor], currents: Sequence[Tensor], n_averaged: Tensor | int
) -> None:
    """Exponential moving average, in place, that forgets faster at first, when it holds noise."""
    steps = float(n_averaged)
    weight = 1 - min(decay, (1 + steps) / (10 + steps))
    pairs = list(zip(averages, currents, strict=True))
    if moving := [pair for pair in pairs if pair[0].is_floating_point()]:
        moved, towards = zip(*moving, strict=True)
        torch._foreach_lerp_(moved, towards, weight)
    for average, current in pairs:
        if not average.is_floating_point():  # counters and tables of indices
            average.copy_(current)


def _over_all_processes(dices: dict[str, float]) -> dict[str, float]:
    """One process' cases and all the others', the same everywhere."""
    _, n_processes = rank_and_size()
    if n_processes == 1:
        return dices
    gathered: list[Any] = [None] * n_processes
    torch.distributed.all_gather_object(gathered, dices)
    return {name: value for part in gathered for name, value in part.items()}
