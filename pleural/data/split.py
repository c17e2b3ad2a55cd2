"""Which cases train and which validate: by patient, seeded, balanced in size of effusion."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pleural.data.case import Case
from pleural.errors import InputError

BANDS_ML = (0.0, 50.0, 200.0, 500.0)  # a patient's stratum: how many of these it exceeds


@dataclass(frozen=True)
class Split:
    """Cases to train on, to validate on, and those left out because nobody labelled them."""

    training: list[Case]
    validation: list[Case]
    unlabelled: list[Case]

    def __str__(self) -> str:
        rows = [("training", self.training), ("validation", self.validation)]
        if self.unlabelled:
            rows.append(("unlabelled", self.unlabelled))
        return "\n".join(f"{name} ({len(cases)}): {_names(cases)}" for name, cases in rows)


def split(
    cases: Sequence[Case],
    fold: int | str,
    n_folds: int,
    seed: int,
    validation: Sequence[str] | None = None,
) -> Split:
    """One fold of a cross-validation.

    Args:
        fold: 0 to ``n_folds - 1``: the fold that validates; ``"all"``: every case trains.
        validation: names of cases or patients that validate, instead of a fold.

    Patients are dealt out in the natural order of their names, each to one of the folds that have
    fewest patients, of these to one that has fewest of its size of effusion, ties broken by the
    seed. So a patient's fold depends on those before it only: patients added later, with later
    names, change nothing.

    Raises:
        InputError: no labelled case, fewer patients than folds, an unknown name, or nothing left
            to train on.
    """
    labelled = [case for case in cases if case.labelled]
    unlabelled = [case for case in cases if not case.labelled]
    if not labelled:
        raise InputError(f"none of the {len(cases)} cases has a mask: nothing to train on")
    if validation is not None:
        chosen = _named(labelled, validation)
    elif fold == "all":
        chosen = set()
    else:
        folds = folds_of(labelled, n_folds, seed)
        if fold not in range(n_folds):
            raise InputError(f"fold is 0 to {n_folds - 1}, or all; got {fold!r}")
        chosen = {patient for patient, its_fold in folds.items() if its_fold == fold}
    training = [case for case in labelled if case.patient not in chosen]
    if not training:
        raise InputError(f"all {len(labelled)} labelled cases validate: nothing to train on")
    return Split(training, [c for c in labelled if c.patient in chosen], unlabelled)


def folds_of(cases: Sequence[Case], n_folds: int, seed: int) -> dict[str, int]:
    """The fold of each patient among labelled cases; see :func:`split`."""
    largest: dict[str, float] = {}
    for case in cases:
        largest[case.patient] = max(largest.get(case.patient, 0.0), case.volume_ml)
    if n_folds < 2 or len(largest) < n_folds:
        raise InputError(
            f"{len(largest)} labelled patients cannot be dealt into n_folds={n_folds}: "
            f"choose n_folds between 2 and {len(largest)}, or fold=all"
        )
    folds: dict[str, int] = {}
    in_band: Counter[tuple[int, int]] = Counter()
    in_fold: Counter[int] = Counter()
    for patient in sorted(largest, key=natural):
        band = sum(largest[patient] > edge for edge in BANDS_ML)
        fewest = min(in_fold[f] for f in range(n_folds))
        open_folds = [f for f in range(n_folds) if in_fold[f] == fewest]
        fold = min(open_folds, key=lambda f, b=band, p=patient: (in_band[b, f], _drawn(seed, p, f)))
        folds[patient] = fold
        in_band[band, fold] += 1
        in_fold[fold] += 1
    return folds


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts ``scan_2`` before ``scan_10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _drawn(seed: int, patient: str, fold: int) -> str:
    return hashlib.sha256(f"{seed}/{patient}/{fold}".encode()).hexdigest()


def _named(cases: Sequence[Case], names: Sequence[str]) -> set[str]:
    """The patients of the cases or patients named."""
    patients = set()
    for name in map(str, names):
        found = {case.patient for case in cases if name in (case.name, case.patient)}
        if not found:
            raise InputError(f"split.validation: no labelled case or patient is called {name!r}")
        patients |= found
    return patients


def _names(cases: Sequence[Case]) -> str:
    return ", ".join(case.name for case in cases) or "none"
