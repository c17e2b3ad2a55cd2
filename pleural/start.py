"""What a training starts from, where it is not chance: the weights of another run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pleural.data.split import Split
from pleural.errors import InputError
from pleural.held_out import Exposure
from pleural.run_folder import RunFolder
from pleural.trained import runs_in
from pleural.words import counted, listed


def start_from(folder: str | Path | None, net: nn.Module, split: Split) -> dict[str, Any] | None:
    """Give ``net`` the weights of the run at ``folder``, norms' statistics and all.

    Returns:
        What a record tells of it: the folder, the hash of its weights, and ``training``: what they
        were learnt from, by that run and by the one that it started from itself. ``None`` where
        there is no folder, and nothing was given.

    Raises:
        InputError: there is not one run, its network is another, or it learnt from a scan (or
            another of its patient) that is to validate here, and would flatter itself.
    """
    if folder is None:
        return None
    runs = runs_in(folder)
    if len(runs) > 1:
        raise InputError(f"start={folder}: holds {len(runs)} runs; name one of them")
    (run,) = runs
    exposure = Exposure.of(run, split.validation)
    if seen := [case.name for case in split.validation if exposure.trained_on(case)]:
        raise InputError(
            f"start={folder}: learnt from {listed(seen)}, which would validate here: name a run "
            "that held them out, or validate on others (fold, split.validation; fold=all: on none)"
        )
    _give(net, RunFolder(run.path).load_best()["weights"], folder)
    learnt = run.learnt_from
    print(f"starts from {folder}, which learnt from {counted(len(learnt), 'scan')}")
    return {"run": str(folder), "weights_sha256": run.weights_sha256, "training": learnt}


def _give(net: nn.Module, weights: Mapping[str, Tensor], folder: str | Path) -> None:
    there = {name: [*value.shape] for name, value in weights.items()}
    here = {name: [*value.shape] for name, value in net.state_dict().items()}
    names = [*dict.fromkeys([*here, *there])]
    if unlike := [name for name in names if there.get(name) != here.get(name)]:
        first = unlike[0]
        raise InputError(
            f"start={folder}: its weights are those of another network ({first}: "
            f"{there.get(first, 'none')} there, {here.get(first, 'none')} here; {len(unlike)} of "
            f"{len(names)} differ): give model the settings of that run"
        )
    net.load_state_dict(weights)
