"""The task of training: cases in, a run folder out."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from pleural.clock import Clock
from pleural.data.case import Case
from pleural.data.split import Split
from pleural.dataset import Patches
from pleural.errors import InputError, first_line, missing_package
from pleural.faults import what_happened
from pleural.hardware import keep_freed_memory, wrong_gradients
from pleural.history import History
from pleural.judgement import described, judge, mean_dice, summary
from pleural.loop import Training, halved_size
from pleural.prepared import Sample
from pleural.run_folder import RunFolder, versions
from pleural.segmenter import Segmenter
from pleural.trained import Inferer, Trained
from pleural.volume import Volume


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
    coarse_until: float,
    ema_decay: float | None,
    bad_loss: str,
    keep: str,
    patience: int | None,
    run_dir: str | Path,
    seed: int,
    settings: str,
) -> float:
    """Train on one fold, keep the best epoch by validation Dice, and judge it on the scans.

    Args:
        data: has ``cases()``.
        coarse_until: share of the training before which patches are halved in plane.
        bad_loss: ``stop`` where a loss is infinite or no number, or ``skip`` the step.
        keep: ``best``, or ``last``: the last epoch, chosen by nothing. The validation scans are
            then seen only when it is judged, so their Dice is that of scans it never met. The last
            is kept, too, where no trusted mask validates.
        patience: stop after so many validations without a better Dice; ``None``: never.
        run_dir: gets everything; a training of the same ``settings`` on the same cases in it is
            resumed from its last epoch or, if it finished, left as it is; any other is refused.
        settings: identifies what was asked for.

    Returns:
        The kept epoch's mean Dice over the validation cases with effusion, on the scans' own
        grids; NaN where every case trains.

    Raises:
        InputError: bad cases (all of them in one list), or a batch that does not fit in memory.
    """
    if keep not in ("best", "last"):
        raise InputError(f"keep is best or last; got {keep!r}")
    keep_freed_memory()
    run = RunFolder(run_dir)
    clock = Clock()
    parts = split(data.cases())
    tell = rank_zero_only(print)
    tell(parts)
    earlier = _earlier(run, settings, parts)
    if earlier.get("finished"):
        tell(f"finished before, with the same settings and cases: {run.path}")
        return math.nan if earlier["dice"] is None else float(earlier["dice"])
    batches, volumes = dataset.loaders(parts.training, parts.validation, preprocess, augmentation)
    chosen_by = parts.choosing if keep == "best" else []
    kept = "best" if chosen_by else "last"
    if keep != kept and parts.validation:
        tell("no trusted mask validates, so no epoch can be called best: the last is kept")
    _check_chooses(chosen_by)
    about = {"versions": versions(), "seed": seed, "settings": settings}
    record = {**about, "finished": False, "split": described(parts)}
    rank_zero_only(run.save_record)(record)
    clock.lap("prepare")
    module = Training(
        model,
        loss,
        optimizer,
        scheduler,
        inference,
        threshold,
        coarse_until,
        ema_decay,
        bad_loss,
        distrusted=[case.name for case in parts.distrusted],
    )
    learnt, judged = ([case.name for case in part] for part in (parts.training, parts.validation))
    history = History(run, learnt, judged, chooses=bool(chosen_by))
    callbacks = _callbacks(run, history, patience)
    fitter = trainer(callbacks=callbacks, logger=logger, default_root_dir=run.path)
    if bad_loss == "skip" and fitter.world_size > 1:
        raise InputError("bad_loss=skip is for one process: others would wait for its gradients")
    _check_patches(fitter, model, dataset, coarse_until)
    finished = _fit(fitter, module, batches, volumes if chosen_by else None, run, dataset)
    clock.lap("train")
    if not fitter.is_global_zero:  # one process judges and writes
        return math.nan
    best = run.load_best()
    model.load_state_dict(best["weights"])
    trained = Trained(model, preprocess, inference, dataset.patch_size, threshold)
    device, precision = fitter.strategy.root_device, str(fitter.precision)
    segmenter = Segmenter([trained], device=device, precision=precision)
    scores = judge(segmenter, parts.validation)
    clock.lap("judge")
    run.save_record(
        {
            **record,
            "precision": segmenter.precision,
            "finished": finished,
            "kept": kept,
            "best_epoch": best["epoch"],
            "epochs": len(history.rows),
            "skipped_steps": module.skipped_steps,
            "patches": fitter.global_step * dataset.patches_per_batch,
            "dice": mean_dice(scores) if scores else None,
            "cases": [asdict(score) for score in scores],
            "seconds": clock.seconds,
        }
    )
    print(summary(run, f"{kept} epoch {best['epoch']}", len(history.rows), scores))
    if not finished:
        raise KeyboardInterrupt
    return mean_dice(scores)


def _earlier(run: RunFolder, settings: str, parts: Split) -> dict[str, Any]:
    """The record of what was begun in the folder; empty where nothing was kept there.

    Raises:
        InputError: it was something else, whose weights must not get this run's record.
    """
    record = run.load_record() or {}
    if not (run.best.exists() or run.last.exists()):
        return {}
    for key, asked, what in (
        ("settings", settings, "with other settings"),
        ("split", described(parts), "on other cases"),
    ):
        if record.get(key) != asked:
            raise InputError(
                f"{run.path} holds a training {what}: to go on with it, give it the same settings, "
                "data and fold; else name another folder"
            )
    return record


def _callbacks(run: RunFolder, history: History, patience: int | None) -> list[Callback]:
    keep_last = ModelCheckpoint(
        run.path, "last", enable_version_counter=False, save_on_train_epoch_end=True
    )
    callbacks = [history, LearningRateMonitor("epoch"), keep_last]
    if patience is not None and history.chooses:
        callbacks.append(EarlyStopping("val/dice", mode="max", patience=patience))
    return callbacks


def _check_chooses(cases: Sequence[Case]) -> None:
    if cases and not any(case.volume_ml > 0 for case in cases):
        names = ", ".join(case.name for case in cases)
        raise InputError(
            f"no validation case has effusion ({names}), so no epoch would be best: "
            "choose another fold, name the cases in split.validation, or keep=last"
        )


def _check_patches(trainer: Trainer, net: nn.Module, dataset: Patches, coarse_until: float) -> None:
    """Before minutes are spent: the network takes what it will meet, and learns from it."""
    _check_size(trainer, net, dataset.patch_size)
    if coarse_until > 0:
        _check_size(trainer, net, halved_size(dataset.patch_size))


def _check_size(trainer: Trainer, net: nn.Module, patch_size: Sequence[int]) -> None:
    try:
        wrong = wrong_gradients(net, patch_size)
    except ImportError as error:
        raise missing_package(error) from error
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the model cannot take patches of {[*patch_size]} ({first_line(error)}): "
            "each size must be divisible by all of its strides, and large enough for them; with "
            "coarse_until=0 patches are not halved"
        ) from error
    on_cpu_in_bf16 = trainer.strategy.root_device.type == "cpu" and "bf16" in str(trainer.precision)
    if wrong and on_cpu_in_bf16:
        raise InputError(
            f"patches of {[*patch_size]} leave {len(wrong)} convolutions ({wrong[0]}, ...) a first "
            "size of 2, where this processor's bf16 gradients are wrong: choose a larger "
            "patch_size along X, trainer.precision=32-true, or coarse_until=0 to halve no patches"
        )


def _fit(
    trainer: Trainer,
    module: Training,
    batches: DataLoader,
    volumes: DataLoader | None,
    run: RunFolder,
    dataset: Patches,
) -> bool:
    """Whether the training ended by itself; ``False``: Ctrl-C ended it after a first validation."""
    checkpoint = run.last if run.last.exists() else None
    if checkpoint:
        run.check_last()
    try:
        trainer.fit(module, batches, volumes, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C; it ignores further ones from then on
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not run.best.exists():
            message = f"stopped before the first epoch was kept: nothing in {run.path}"
            raise InputError(message) from None
        return False
    except (InputError, MemoryError, RuntimeError, OSError) as error:
        told = what_happened(error, run, dataset)
        if told is None:
            raise
        raise told from error
    return True
