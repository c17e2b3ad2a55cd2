"""The task of training: cases in, a run folder out."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from pleural.clock import Clock
from pleural.data.case import Case
from pleural.data.split import Split
from pleural.dataset import Patches
from pleural.errors import InputError
from pleural.faults import what_happened, what_happened_after
from pleural.hardware import keep_freed_memory
from pleural.history import History
from pleural.interrupt import Interrupt
from pleural.judgement import Score, described, entries, judge, mean_dice, summary
from pleural.loop import Training
from pleural.parts import shares
from pleural.patience import Patience
from pleural.preflight import check, check_cases, validation_chooses
from pleural.prepared import Sample
from pleural.run_folder import CONFIG, RunFolder
from pleural.segmenter import Segmenter
from pleural.start import start_from
from pleural.tracking import tell_settings
from pleural.trained import Inferer, Trained
from pleural.versions import versions
from pleural.volume import Volume


def train(
    data: Any,
    companions: Any | None,
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
    sure_inside: Sequence[float] | None,
    start: str | Path | None,
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
        companions: has ``cases()``, too, which train along and never validate, all together as
            often as one case of ``data``; ``None``: there are none.
        sure_inside: which parts of a prediction are left out (see :func:`pleural.parts.unsure`).
        start: run folder, or name of weights that come with this package, that the network starts
            from (see :func:`pleural.start.start_from`); ``None``: from random ones.
        coarse_until: share of the training before which patches are halved in plane.
        bad_loss: ``stop`` where a loss is infinite or no number, or ``skip`` the step (see
            :class:`pleural.loop.Training`).
        keep: ``best``, or ``last``: the last epoch, chosen by nothing. The validation scans are
            then seen only when it is judged, so their Dice is that of scans it never met. The last
            is kept, too, where no trusted mask validates.
        patience: stop after so many validations without a better Dice, those while patches are
            halved not counted; ``None``: never.
        run_dir: gets everything; a training of the same ``settings`` on the same cases in it is
            resumed from its last epoch or, if it finished, left as it is; any other is refused.
        settings: identifies what was asked for.

    Returns:
        The kept epoch's mean Dice over the validation cases with effusion, on the scans' own
        grids; NaN where every case trains.

    Raises:
        InputError: bad cases (all of them in one list), or a batch that does not fit in memory.
    """
    if patience is not None and patience < 1:
        raise InputError(f"patience is 1 or more validations, or null; got {patience}")
    keep_freed_memory()
    sure = shares(sure_inside)
    run, clock = RunFolder(run_dir), Clock()
    subsets = split(data.cases())
    tell = rank_zero_only(print)
    tell(subsets)
    earlier = _earlier(run, settings, subsets)
    if earlier.get("finished"):
        tell(f"finished before, with the same settings and cases: {run.path}")
        return math.nan if earlier["dice"] is None else float(earlier["dice"])
    # Where the first epoch was cut off while it was kept, there is nothing yet to go on from.
    begun = earlier.get("start") if run.last.exists() else start_from(start, model, subsets)
    chooses = validation_chooses(subsets, keep)  # by validation: the epoch that is kept
    _tell_of_validation(bool(keep == "best" and subsets.validation), chooses, coarse_until)
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
        distrusted=[case.name for case in subsets.distrusted],
    )
    history, interrupt = History(run, subsets, chooses), Interrupt()
    callbacks = [interrupt, *_callbacks(run, history, patience)]
    fitter = trainer(callbacks=callbacks, logger=logger, default_root_dir=run.path)
    check(fitter, module, dataset, augmentation, chooses)
    beside: list[Case] = [] if companions is None else companions.cases()
    batches, volumes = dataset.loaders(
        subsets.training, subsets.validation, preprocess, augmentation, beside
    )
    check_cases(subsets, beside, chooses)
    about = {"versions": versions(), "seed": seed, "settings": settings}
    cases = {"split": described(subsets), "companions": entries(beside)}
    record = {**about, "finished": False, "start": begun, **cases}
    rank_zero_only(run.save_record)(record)
    rank_zero_only(tell_settings)(fitter.loggers, run.path / CONFIG)
    clock.lap("prepare")
    with interrupt.heard(fitter):
        finished = _fit(fitter, module, batches, volumes if chooses else None, run, dataset)
    finished &= not interrupt.asked  # at the end of its last step
    clock.lap("train", least_s=60 * history.minutes)  # those of earlier sessions
    if not fitter.is_global_zero:  # one process judges and writes
        return math.nan
    trained = Trained(model, preprocess, inference, dataset.patch_size, threshold, sure)
    scores, outcome = _judged(run, trained, fitter, subsets.validation)
    clock.lap("judge")
    kept, n_epochs = "best" if chooses else "last", len(history.rows)
    ended = {"finished": finished, "kept": kept, "epochs": n_epochs, "seconds": clock.seconds}
    counts = {"skipped_steps": module.skipped_steps, "patches": module.patches * fitter.world_size}
    run.save_record(record | outcome | counts | ended)
    print(summary(run, f"{kept} epoch {outcome['best_epoch']}", n_epochs, scores))
    if not finished:
        raise KeyboardInterrupt
    return mean_dice(scores)


def _earlier(run: RunFolder, settings: str, subsets: Split) -> dict[str, Any]:
    """The record of what was begun in the folder; empty where nothing was kept there.

    Raises:
        InputError: it was something else, whose weights must not get this run's record.
    """
    record = run.load_record() or {}
    if not run.holds_weights:
        return {}
    for key, asked, what in (
        ("settings", settings, "with other settings"),
        ("split", described(subsets), "on other cases"),
    ):
        if record.get(key) != asked:
            raise InputError(
                f"{run.path} holds a training {what}: to go on with it, give it the same settings, "
                "data and fold; else name another folder"
            )
    return record


def _tell_of_validation(wanted: bool, chooses: bool, coarse_until: float) -> None:
    tell = rank_zero_only(print)
    if wanted and not chooses:
        tell("no trusted mask validates, so no epoch can be called best: the last is kept")
    if chooses and coarse_until:
        tell(f"patches are halved for the first {coarse_until:.0%}: until then validation is low")


def _callbacks(run: RunFolder, history: History, patience: int | None) -> list[Callback]:
    keep_last = ModelCheckpoint(
        run.path, "last", enable_version_counter=False, save_on_train_epoch_end=True
    )
    callbacks = [history, LearningRateMonitor("epoch"), keep_last]
    if patience is not None and history.chooses:
        callbacks.append(Patience(patience))
    elif patience is not None:
        tell = rank_zero_only(print)
        tell(f"patience={patience} ends nothing: no validation chooses the epoch here")
    return callbacks


def _judged(
    run: RunFolder, trained: Trained, trainer: Trainer, cases: Sequence[Case]
) -> tuple[list[Score], dict[str, Any]]:
    """How the kept weights do, as scores and as the record tells it.

    On the device and in the precision of the training.

    Raises:
        InputError: a scan does not fit into memory, or cannot be read any more.
    """
    best = run.load_best()
    trained.net.load_state_dict(best["weights"])
    device, precision = trainer.strategy.root_device, str(trainer.precision)
    segmenter = Segmenter([trained], device=device, precision=precision)
    try:
        scores = judge(segmenter, cases)
    except (MemoryError, RuntimeError, OSError) as error:
        if told := what_happened_after(error, run):
            raise told from error
        raise
    overlap = mean_dice(scores)
    return scores, {
        "precision": segmenter.precision,
        "best_epoch": best["epoch"],
        "dice": None if math.isnan(overlap) else overlap,
        "cases": [asdict(score) for score in scores],
    }


def _fit(
    trainer: Trainer,
    module: Training,
    batches: DataLoader,
    volumes: DataLoader | None,
    run: RunFolder,
    dataset: Patches,
) -> bool:
    """Whether the training ended by itself; ``False``: Ctrl-C ended it after an epoch was kept."""
    checkpoint = run.last if run.last.exists() else None
    if checkpoint:
        run.check_last()
    try:
        trainer.fit(module, batches, volumes, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C
        if not run.best.exists():
            message = f"stopped before the first epoch was kept: nothing in {run.path}"
            print(message, file=sys.stderr)
            raise KeyboardInterrupt from None
        return False
    except (InputError, MemoryError, RuntimeError, OSError) as error:
        told = what_happened(error, run, dataset)
        if told is None:
            raise
        raise told from error
    if volumes is not None and not run.best.exists():
        raise InputError(
            f"{run.path}: the time was over before any epoch was validated, so none can be called "
            "best: lower trainer.check_val_every_n_epoch, or raise trainer.max_time"
        )
    return True
