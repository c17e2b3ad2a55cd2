"""How the kept epoch does on the validation scans themselves, and how that is told."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pleural.data.case import Case
from pleural.data.split import Split
from pleural.dice import dice
from pleural.run_folder import RunFolder
from pleural.segmenter import Segmenter
from pleural.statistics import few
from pleural.words import counted


@dataclass(frozen=True)
class Score:
    """A case on its own grid. ``dice`` is 1 where reference and prediction are both empty.

    ``unsure_ml`` is left out of the prediction (see :mod:`pleural.parts`).
    """

    name: str
    patient: str
    dice: float
    reference_ml: float
    predicted_ml: float
    unsure_ml: float


def judge(segmenter: Segmenter, cases: Sequence[Case]) -> list[Score]:
    """Each labelled case, predicted and compared on the grid of its scan."""
    scores = []
    for case in cases:
        scan, reference = case.load()
        assert reference is not None, "only labelled cases validate"
        prediction, _, unsure_ml = segmenter.segment(scan)
        overlap = dice(prediction.array, reference.array)
        volumes_ml = reference.nonzero_ml, prediction.nonzero_ml, unsure_ml
        scores.append(Score(case.name, case.patient, overlap, *volumes_ml))
    return scores


def mean_dice(scores: Sequence[Score]) -> float:
    """Over the cases with effusion, missed ones counted as 0; NaN where there are none.

    On a case without effusion Dice is 0 or 1 and says nothing of an overlap; such cases are judged
    by the millilitres predicted.
    """
    positive = [score.dice for score in scores if score.reference_ml > 0]
    return float(np.mean(positive)) if positive else math.nan


def described(split: Split) -> dict[str, list[dict[str, Any]]]:
    """Each part's cases for the run's record, with a hash of the content of those that are used."""
    used = {"training": split.training, "validation": split.validation}
    parts = {part: entries(cases) for part, cases in used.items()}
    for part, cases in (("unlabelled", split.unlabelled), ("distrusted", split.distrusted)):
        parts[part] = [{"name": case.name, "patient": case.patient} for case in cases]
    return parts


def entries(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Of cases that are used, what tells them again wherever they lie."""
    return [
        {
            "name": case.name,
            "patient": case.patient,
            "volume_ml": round(case.volume_ml, 3),
            "image_sha256": case.image_hash,
            "sha256": case.content_hash,
        }
        for case in cases
    ]


def summary(run: RunFolder, kept: str, n_epochs: int, scores: Sequence[Score]) -> str:
    """What a person wants to know when a training ends; ``kept`` names the epoch."""
    lines = ["", f"{kept} of {n_epochs} (epochs count from 0)"]
    if scores:
        positive = [score for score in scores if score.reference_ml > 0]
        width = max(len(name) for name in ("case", *(score.name for score in scores)))
        lines.append(f"{'case':{width}}   Dice   reference mL   predicted mL")
        for s in scores:
            shown = f"{s.dice:.3f}" if s.reference_ml > 0 else "  -  "
            volumes = f"{s.reference_ml:13.1f}  {s.predicted_ml:13.1f}"
            lines.append(f"{s.name:{width}}  {shown}  {volumes}")
        lines += [
            f"{s.name}: {s.unsure_ml:.1f} mL more are left out, as the network is unsure of their "
            "inside (sure_inside)"
            for s in scores
            if s.unsure_ml > 0
        ]
        if positive:
            over = counted(len(positive), "validation case")
            lines.append(
                f"mean Dice {mean_dice(scores):.3f} over {over} with effusion, "
                "on the scans' own grids"
            )
        else:
            lines.append("no validation case has effusion, so there is no mean Dice")
        if positive and (warning := few(len({score.patient for score in positive}))):
            lines.append(f"({warning})")
    else:
        lines.append("every case trained, none validated: the last weights are kept as the best")
    lines.append(f"everything is in {run.path}")
    if any(run.path.glob("events.*")):
        lines.append(f"curves: tensorboard --logdir {shlex.quote(str(run.path))}")
    return "\n".join(lines)
