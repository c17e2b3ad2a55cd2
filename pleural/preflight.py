"""What a training is refused for before minutes are spent on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from monai.transforms import Compose, RandRotate90d
from pytorch_lightning import Trainer
from torch import nn

from pleural.data.case import Case
from pleural.data.split import Split
from pleural.dataset import Patches
from pleural.errors import InputError, first_line, missing_package
from pleural.hardware import wrong_gradients
from pleural.loop import Training, halved_size
from pleural.prepared import Sample
from pleural.words import listed


def validation_chooses(split: Split, keep: str) -> bool:
    """Whether the epoch that is kept is chosen by trusted validation cases.

    Raises:
        InputError: ``keep`` is neither best nor last.
    """
    if keep not in ("best", "last"):
        raise InputError(f"keep is best or last; got {keep!r}")
    return keep == "best" and bool(split.choosing)


def check_cases(split: Split, companions: Sequence[Case], chooses: bool) -> None:
    """That validation can say something about what trains.

    Raises:
        InputError: a scan that trains would validate as well, under another name; or none of the
            cases that choose the epoch has an effusion.
    """
    if chooses and not any(case.volume_ml > 0 for case in split.choosing):
        names = ", ".join(case.name for case in split.choosing)
        raise InputError(
            f"no trusted validation case has effusion ({names}), so no epoch would be best: "
            "choose another fold, name the cases in split.validation, or keep=last"
        )
    trains = {case.image_hash: case.name for case in [*split.training, *companions]}
    twice = [(case.name, trains.get(case.image_hash)) for case in split.validation]
    if told := [f"{name} is {other}" for name, other in twice if other]:
        raise InputError(
            f"the same scan would train and validate ({listed(told)}): take one of them out, or "
            "give both one patient (data.patient_pattern, or a table's column patient)"
        )


def check(
    trainer: Trainer,
    module: Training,
    dataset: Patches,
    augmentation: Callable[[Sample], Sample],
    chooses: bool,
) -> None:
    """That what was asked for fits together, and that the network can learn of such patches.

    Raises:
        InputError: it does not, or cannot.
    """
    if module.bad_loss == "skip" and trainer.world_size > 1:
        raise InputError("bad_loss=skip is for one process: others would wait for its gradients")
    if not chooses and hasattr(module.schedule, "observe"):
        raise InputError(
            "this scheduler waits for validations, and none chooses the epoch here: another "
            "scheduler, or keep=best and a fold that validates"
        )
    every, n_epochs = trainer.check_val_every_n_epoch or 1, trainer.max_epochs
    if chooses and n_epochs is not None and 0 <= n_epochs < every:
        raise InputError(
            f"of {n_epochs} epochs, validated every {every}, none would be: lower "
            "trainer.check_val_every_n_epoch"
        )
    _check_turns(augmentation, dataset.patch_size)
    _check_size(trainer, module.net, dataset.patch_size)
    if module.coarse_until > 0:
        _check_size(trainer, module.net, halved_size(dataset.patch_size))


def _check_turns(augmentation: Callable[[Sample], Sample], patch_size: Sequence[int]) -> None:
    """That right-angle turns leave a patch its size."""
    steps = augmentation.flatten().transforms if isinstance(augmentation, Compose) else ()
    for turn in steps:
        if not isinstance(turn, RandRotate90d) or not turn.prob:
            continue
        one, other = turn.spatial_axes
        if patch_size[one] != patch_size[other]:
            raise InputError(
                f"the augmentation turns patches by right angles (RandRotate90d) in the axes {one} "
                f"and {other}, in which patch_size={[*patch_size]} is unequal: make it equal in "
                "these, as experiment=baseline does, or choose another augmentation"
            )


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
