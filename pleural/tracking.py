"""Where runs are tracked beside their folders: what they are called there, and what is told."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pleural.settings import NO_SETTINGS

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger, MLFlowLogger

OUTPUTS = "outputs"  # gets a folder for each task, and that one for each name
TRACKED = re.compile(r"(?:offline-)?run-(\d{8}_\d{6})-(.+)")  # folders of Weights & Biases


def tracked_name(run_dir: str) -> str:
    """A run's name where it is tracked: its folder below that of its task, a sweep's before it.

    >>> tracked_name("/home/ann/outputs/train/cv/fold-0"), tracked_name("/elsewhere/mine")
    ('cv/fold-0', 'mine')
    """
    parts = Path(run_dir).absolute().parts
    before = [number for number, part in enumerate(parts) if part == OUTPUTS]
    return "/".join(parts[before[-1] + 2 :] if before else ()) or parts[-1]


def wandb_id(run_dir: str) -> str | None:
    """Of the run of Weights & Biases that a training in this folder goes on with."""
    matches = map(TRACKED.fullmatch, (path.name for path in Path(run_dir, "wandb").glob("*")))
    runs = sorted((match[1], match[2]) for match in matches if match)
    if not runs:
        return None
    from pleural.run_folder import RunFolder  # takes seconds, as torch comes with it

    return runs[-1][1] if RunFolder(run_dir).last.exists() else None  # else it begins anew


def mlflow_logger(tracking_uri: str, experiment_name: str, **others: Any) -> MLFlowLogger:
    """Lightning's logger; a SQLite file that all runs share is made ready for it.

    By one process after the other: those that begin at once would spoil it, as MLflow makes it.
    """
    from pytorch_lightning.loggers import MLFlowLogger  # takes seconds

    given = {"tracking_uri": tracking_uri, "experiment_name": experiment_name, **others}
    file = tracking_uri.partition("sqlite:///")[2]
    if not file:
        return MLFlowLogger(**given)
    from filelock import FileLock  # comes with torch

    Path(file).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        logger = MLFlowLogger(**given)
        from mlflow import MlflowClient  # the logger has told if it is not here

        client = MlflowClient(tracking_uri)
        if client.get_experiment_by_name(experiment_name) is None:
            client.create_experiment(experiment_name)
    return logger


def end_wandb(exit_code: int) -> None:
    """End the run of Weights & Biases, if one is open: the next job here would write into it."""
    wandb: Any = sys.modules.get("wandb")
    if getattr(wandb, "run", None) is not None:
        wandb.finish(exit_code=exit_code)


def tell_settings(loggers: Sequence[Logger], config: Path) -> None:
    """The settings in ``config``, by which runs are compared where they are tracked.

    As Hydra wrote them down, each where it is set: the others only refer to it. TensorBoard is not
    told, whose ``hparams.yaml`` would be a copy beside them.
    """
    from pytorch_lightning.loggers import TensorBoardLogger  # takes seconds

    others = [one for one in loggers if not isinstance(one, TensorBoardLogger)]
    if not others or not config.exists():
        return
    asked = dict(_leaves(yaml.safe_load(config.read_text(encoding="utf-8"))))
    for logger in others:
        logger.log_hyperparams(asked)


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their dotted keys, those of a part in a list by its number.

    >>> dict(_leaves({"a": {"b": [{"c": 1}], "d": [2, 3]}, "e": "${a.d}", "name": "mine"}))
    {'a.b.0.c': 1, 'a.d': [2, 3]}
    """
    if key in NO_SETTINGS or (isinstance(node, str) and "${" in node):
        return
    parts = isinstance(node, list) and any(isinstance(one, dict) for one in node)
    if parts or isinstance(node, dict):
        for name, one in enumerate(node) if parts else node.items():
            yield from _leaves(one, f"{key}.{name}" if key else f"{name}")
    else:
        yield key, node
