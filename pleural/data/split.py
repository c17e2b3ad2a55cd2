"""Which cases train and which validate: by patient, seeded, balanced in size of effusion."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pleural.data.case import Case, as_names, natural
from pleural.errors import InputError
from pleural.size import band
from pleural.words import counted


@dataclass(frozen=True)
class Split:
    """Cases to train on, to validate on, and those left out for want of a mask."""

    training: list[Case]
    validation: list[Case]
    unlabelled: list[Case]

    @property
    def distrusted(self) -> list[Case]:
        """Those whose masks teach nothing, and do not say which epoch is best."""
        return [case for case in [*self.training, *self.validation] if case.distrusted]

    @property
    def choosing(self) -> list[Case]:
        """Those of the validation that say which epoch is best."""
        return [case for case in self.validation if not case.distrusted]

    def __str__(self) -> str:
        rows = [("training", self.training), ("validation", self.validation)]
        others = [("unlabelled", self.unlabelled), ("distrusted of these", self.distrusted)]
        rows += [(name, cases) for name, cases in others if cases]
        return "\n".join(f"{name} ({len(cases)}): {_names(cases)}" for name, cases in rows)


def split(
    cases: Sequence[Case],
    fold: int | str,
    n_folds: int,
    seed: int,
    validation: str | Sequence[str] | None = None,
) -> Split:
    """One fold of a cross-validation.

    Args:
        fold: 0 to ``n_folds - 1``: the fold that validates; ``"all"``: every case trains.
        validation: names of cases or patients that validate, instead of a fold; with a case go the
            others of its patient.

    Patients are dealt out in the natural order of their names, each to one of the folds that have
    fewest patients, of these to one that has fewest of its size of effusion, ties broken by the
    seed. So a patient's fold depends on those before it only: patients added later, with later
    names, change nothing.

    Raises:
        InputError: no labelled case, no such fold, a fold (other than the default, 0) beside
            ``validation``, fewer patients than folds, an unknown name, or nothing left to train on
            but distrusted cases.
    """
    labelled = [case for case in cases if case.labelled]
    unlabelled = [case for case in cases if not case.labelled]
    if not labelled:
        raise InputError(f"none of the {len(cases)} cases has a mask: nothing to train on")
    if validation is not None:
        if fold != 0:
            raise InputError(
                f"fold={fold} beside split.validation: only one of them can say who validates"
            )
        chosen = _named(labelled, as_names(validation))
    elif fold == "all":
        chosen = set()
    else:
        if fold not in range(n_folds):
            raise InputError(f"fold is 0 to {n_folds - 1}, or all; got {fold!r}")
        folds = folds_of(labelled, n_folds, seed)
        chosen = {patient for patient, its_fold in folds.items() if its_fold == fold}
    training = [case for case in labelled if case.patient not in chosen]
    if all(case.distrusted for case in training):
        but = f", or are distrusted ({_names(training)})" if training else ""
        raise InputError(f"all {len(labelled)} labelled cases validate{but}: nothing to train on")
    validating = [case for case in labelled if case.patient in chosen]
    return Split(training, validating, unlabelled)


def folds_of(cases: Sequence[Case], n_folds: int, seed: int) -> dict[str, int]:
    """The fold of each patient among labelled cases; see :func:`split`."""
    count = len({case.patient for case in cases})
    if not 2 <= n_folds <= count:
        remedy = (
            f"choose n_folds from 2 to {count}, or fold=all" if count > 1 else "choose fold=all"
        )
        raise InputError(
            f"{counted(count, 'labelled patient')} cannot be dealt into n_folds={n_folds}: {remedy}"
        )
    largest_ml = _largest_ml(cases)
    folds: dict[str, int] = {}
    of_size: Counter[tuple[str, int]] = Counter()
    in_fold: Counter[int] = Counter()
    for patient in sorted(largest_ml, key=natural):
        size = band(largest_ml[patient]) if largest_ml[patient] > 0 else "none"
        ranked = [
            (in_fold[fold], of_size[size, fold], _drawn(seed, patient, fold), fold)
            for fold in range(n_folds)
        ]
        fold = min(ranked)[-1]
        folds[patient] = fold
        of_size[size, fold] += 1
        in_fold[fold] += 1
    return folds


def _largest_ml(cases: Sequence[Case]) -> dict[str, float]:
    """The volume of each patient's largest effusion; 0 where the mask cannot be read.

    Such a mask is refused with whatever else is wrong when the cases are prepared.
    """
    largest: dict[str, float] = {}
    for case in cases:
        try:
            volume_ml = case.volume_ml
        except InputError:
            volume_ml = 0.0
        largest[case.patient] = max(largest.get(case.patient, 0.0), volume_ml)
    return largest


def _drawn(seed: int, patient: str, fold: int) -> str:
    return hashlib.sha256(f"{seed}/{patient}/{fold}".encode()).hexdigest()


def _named(cases: Sequence[Case], names: Sequence[str]) -> set[str]:
    """The patients of the cases or patients named."""
    known = {name for case in cases for name in (case.name, case.patient)}
    if unknown := [name for name in names if name not in known]:
        listed = ", ".join(map(repr, unknown))
        raise InputError(f"split.validation: no labelled case or patient is called {listed}")
    return {case.patient for case in cases if case.name in names or case.patient in names}


def _names(cases: Sequence[Case]) -> str:
    return ", ".join(case.name for case in cases) or "none"
