"""A run folder as what predicts: only what prediction needs is built, and only from known packages.

The configuration in a run folder names the classes to build. A folder may come from anywhere, so
only what :mod:`pleural.trusted` lets through is built, and weights are read without executing
anything (``weights_only=True``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from yaml import YAMLError

from pleural.errors import InputError, as_input_error, one_line, root_cause
from pleural.parts import Shares, shares
from pleural.run_folder import CONFIG, RunFolder
from pleural.settings import digest
from pleural.trusted import check_resolvers, check_targets
from pleural.volume import Volume
from pleural.words import brief

BUILT = ("model", "preprocess", "inference")  # the groups that prediction takes from a run
BUILD_ERRORS = (
    *(InstantiationException, AttributeError, KeyError, TypeError, ValueError, RuntimeError),
)

Inferer = Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]


@dataclass(frozen=True)
class Trained:
    """A network with what it was trained with, and is to predict with.

    Args:
        net: logits ``(B, 1, X, Y, Z)`` from prepared patches.
        preprocess: from a scan in HU to what ``net`` was trained on.
        inferer: runs ``net`` over a whole volume, such as MONAI's sliding window.
        patch_size: voxels in X, Y, Z; smaller volumes are padded with air.
        threshold: probability from which a voxel of the study is effusion.
        sure_inside: which parts are left out after all (see :func:`pleural.parts.unsure`); none if
            ``None``.
    """

    net: nn.Module
    preprocess: Callable[[Volume], Volume]
    inferer: Inferer
    patch_size: Sequence[int]
    threshold: float
    sure_inside: Shares | None = None  # runs from before there was one


@dataclass(frozen=True)
class Run:
    """A run folder that holds weights: its record, and what identifies the weights."""

    path: Path
    record: dict[str, Any]
    weights_sha256: str

    @property
    def learnt_from(self) -> list[dict[str, Any]]:
        """The record's entry of every case that shaped the weights.

        Raises:
            KeyError: the record does not say.
        """
        return [*self.record["split"]["training"], *self.companions, *self.learnt_before]

    @property
    def companions(self) -> list[dict[str, Any]]:
        """Of these, those that trained along, if any; runs from before told no more than names."""
        along = self.record.get("companions") or []
        return [entry for entry in along if isinstance(entry, dict)]

    @property
    def learnt_before(self) -> list[dict[str, Any]]:
        """Of these, those of the run that it started from, if of any."""
        start = self.record.get("start") or {"training": []}
        return [*start["training"]]

    def load(self) -> Trained:
        """What was trained, ready to predict.

        Raises:
            InputError: the configuration cannot be read, names what is not allowed, or builds
                something else than what was trained.
        """
        config = self.config()
        for part in BUILT:
            check_targets(config.get(part), f"{self.path / CONFIG}: {part}")
        try:
            parts = {name: instantiate(config[name], _convert_="all") for name in BUILT}
            parts["model"].load_state_dict(RunFolder(self.path).load_best()["weights"])
            return Trained(
                net=parts["model"],
                preprocess=parts["preprocess"],
                inferer=parts["inference"],
                patch_size=tuple(config["patch_size"]),
                threshold=float(config["threshold"]),
                sure_inside=shares(config["sure_inside"]),
            )
        except BUILD_ERRORS as error:
            told = brief(one_line(root_cause(error)), 200)
            raise as_input_error(
                error,
                f"{self.path}: its configuration does not build what its weights belong to "
                f"({told}): copy the folder anew, or train again",
            ) from error

    def config(self) -> dict[str, Any]:
        """What prediction needs of the configuration, as plain values; nothing is built.

        Raises:
            InputError: it cannot be read, or is not that of a training.
        """
        file = self.path / CONFIG
        try:
            config = OmegaConf.load(file)
            if not isinstance(config, DictConfig):
                raise TypeError("no mapping")
            raw: Any = OmegaConf.to_container(config, resolve=False)
            needed = {str(key): raw[key] for key in (*BUILT, "patch_size", "threshold")}
            needed["sure_inside"] = raw.get("sure_inside")
            check_resolvers(needed, str(file))
            plain = OmegaConf.to_container(OmegaConf.create(needed), resolve=True)
        except (OSError, YAMLError, OmegaConfBaseException, TypeError, KeyError) as error:
            raise InputError(
                f"{file}: is not the configuration of a training ({one_line(error)})"
            ) from error
        if self.record.get("settings", digest(config)) != digest(config):
            raise InputError(
                f"{file}: is not the configuration that the weights beside it were trained with; "
                "the command of that training, given again, restores it"
            )
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items()}


def runs_in(folder: str | Path) -> list[Run]:
    """The run at ``folder``, or all runs below it (of a sweep, say), in the order of their names.

    Raises:
        InputError: there is no run, or one of them has no weights (yet).
    """
    folder = Path(folder).expanduser()
    paths = [file.parents[1] for file in _sorted(folder, CONFIG)]
    if not paths:
        raise InputError(
            f"{folder}: no run folder (none holds {CONFIG}): name one below outputs/train"
        )
    return [_run(path) for path in paths]


def _sorted(folder: Path, name: str) -> Iterator[Path]:
    yield from [folder / name] if (folder / name).exists() else sorted(folder.rglob(name))


def _run(path: Path) -> Run:
    files = RunFolder(path)
    for file, what in ((files.best, "weights"), (files.record, "record")):
        if not file.exists():
            raise InputError(
                f"{path}: no {what} ({file.name}): let the training finish (the same command goes "
                "on with it), or move the folder away"
            )
    record = files.load_record() or {}
    if not record.get("finished", True):
        print(f"{path} did not finish (yet): its best epoch so far is taken")
    return Run(path.absolute(), record, hashlib.sha256(files.best.read_bytes()).hexdigest())
