"""What a training starts from, where its weights are not random: some that were learnt before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from pleural.data.case import Case
from pleural.data.split import Split
from pleural.errors import InputError
from pleural.held_out import Exposure
from pleural.run_folder import RunFolder
from pleural.trained import Run, runs_in
from pleural.words import counted, listed

# Run folders that come with this package (docs/decisions/0009), their weights in half precision.
SHIPPED = {"phantoms": Path(__file__).parent / "weights" / "phantoms"}

tell = rank_zero_only(print)


def start_from(start: str | Path | None, net: nn.Module, split: Split) -> dict[str, Any] | None:
    """Give ``net`` the weights of a run, norms' statistics and all.

    Args:
        start: a run folder; or a name in ``SHIPPED``, whose weights are for the default network, so
            that another starts from random ones, and that is said; or ``None``: random ones.

    Returns:
        What a record tells of it: ``run``, the hash of its weights, and ``training``: what they
        were learnt from, by that run and by the one that it started from itself. ``None``: random
        weights.

    Raises:
        InputError: there is not one run, its network is another, or it learnt from a scan (or
            another of its patient) that is to validate here, and would flatter itself.
    """
    if start is None:
        return None
    run = _run(start)
    exposure = Exposure.of(run, [*split.training, *split.validation])
    if seen := [case.name for case in split.validation if _learnt_from(exposure, case)]:
        raise InputError(
            f"start={start}: learnt from {listed(seen)}, which would validate here: name a run "
            "that held them out, or validate on others (fold, split.validation; fold=all: on none)"
        )
    weights = RunFolder(run.path).load_best()["weights"]
    if unlike := [*_unlike(weights, net.state_dict())]:
        told = f"start={start}: its weights are those of another network"
        if start in SHIPPED:
            tell(f"{told}: this one starts from random ones")
            return None
        raise InputError(
            f"{told} ({unlike[0]}; {len(unlike)} differ): give model the settings of that run"
        )
    net.load_state_dict(weights)
    learnt = run.learnt_from
    tell(f"starts from {start}, which learnt from {counted(len(learnt), 'scan')}")
    return {"run": str(start), "weights_sha256": run.weights_sha256, "training": learnt}


def _run(start: str | Path) -> Run:
    runs = runs_in(SHIPPED.get(str(start), start))
    if len(runs) > 1:
        raise InputError(f"start={start}: holds {len(runs)} runs; name one of them")
    return runs[0]


def _learnt_from(exposure: Exposure, case: Case) -> bool:
    try:
        return exposure.trained_on(case)
    except InputError:  # cannot be read: told when cases are prepared, with all that is wrong
        return False


def _unlike(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> Iterator[str]:
    """Each tensor that one of two networks lacks, or has in another shape."""
    for name in dict.fromkeys([*here, *there]):
        shapes = [[*of[name].shape] if name in of else "none" for of in (there, here)]
        if shapes[0] != shapes[1]:
            yield f"{name}: {shapes[0]} there, {shapes[1]} here"
