"""Which trained networks may judge which case: never one that saw it, or its patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pleural.data.case import Case
from pleural.errors import InputError
from pleural.run_folder import validation_chose
from pleural.trained import Run
from pleural.words import counted


@dataclass(frozen=True)
class Part:
    """The images (by content) and the patients of one part of a split."""

    images: frozenset[str]
    patients: frozenset[str]

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, str]]) -> Part:
        images, patients = (
            frozenset(entry[key] for entry in entries) for key in ("image_sha256", "patient")
        )
        return cls(images, patients)

    def holds(self, case: Case, by_patient: bool) -> bool:
        return case.image_hash in self.images or (by_patient and case.patient in self.patients)


@dataclass(frozen=True)
class Source:
    """What a run saw of one source of cases, which names its patients in its own way.

    Patients are matched by name, and only if an image of such a namesake was seen too: the same
    names in another hospital's data are a coincidence, which is said aloud.
    """

    training: Part
    validation: Part
    by_patient: bool

    @classmethod
    def of(cls, training: Part, validation: Part, cases: Sequence[Case], whose: str) -> Source:
        images = training.images | validation.images
        patients = training.patients | validation.patients
        namesakes = [case for case in cases if case.patient in patients]
        related = any(_is_of(case, images) for case in namesakes)
        if namesakes and not related:
            print(
                f"caution: {counted(len(namesakes), 'case')} named like patients of {whose}, but "
                "no image is shared: taken for other patients"
            )
        return cls(training, validation, by_patient=related)

    def trained_on(self, case: Case) -> bool:
        return self.training.holds(case, self.by_patient)

    def validated_on(self, case: Case) -> bool:
        return self.validation.holds(case, self.by_patient)


@dataclass(frozen=True)
class Exposure:
    """What one run saw, as its record tells, in relation to the cases of a data source.

    A run saw a case if it, or the run that it started from, trained on the same image or on another
    of the same patient; what trained along counts as well. Each of the three has its own names.

    Raises:
        InputError: the record does not say what it trained on.
    """

    run: Run
    own: Source
    along: Source
    before: Source
    voters: Part  # of the validation: distrusted cases are judged there, and choose nothing

    @classmethod
    def of(cls, run: Run, cases: Sequence[Case]) -> Exposure:
        try:
            training, validation = (
                Part.of(run.record["split"][part]) for part in ("training", "validation")
            )
            doubted = {entry["name"] for entry in run.record["split"].get("distrusted", [])}
            entries = run.record["split"]["validation"]
            voters = Part.of([entry for entry in entries if entry["name"] not in doubted])
            along, before = Part.of(run.companions), Part.of(run.learnt_before)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{run.path}: its run.json does not say which images it trained on ({error} is "
                "missing); train it anew"
            ) from error
        none, name = Part.of([]), run.path.name
        return cls(
            run,
            own=Source.of(training, validation, cases, name),
            along=Source.of(along, none, cases, f"what trained along with {name}"),
            before=Source.of(before, none, cases, f"what {name} started from"),
            voters=voters,
        )

    def trained_on(self, case: Case) -> bool:
        return any(source.trained_on(case) for source in (self.own, self.along, self.before))

    def validated_on(self, case: Case) -> bool:
        return self.own.validated_on(case)

    def chosen_on(self, case: Case) -> bool:
        """Whether ``case`` helped to choose the epoch that the run kept; distrusted ones do not."""
        voted = self.voters.holds(case, self.own.by_patient)
        return voted and validation_chose(self.run.record)


def exposures_for(case: Case, exposures: Sequence[Exposure], held_out: bool) -> list[Exposure]:
    """The runs that predict ``case``: all, or with ``held_out`` those that did not train on it.

    Where some of these validated on it, they do: in a cross-validation that is its own fold. A
    case that no run knows is predicted by all. None are left where every run trained on it.
    """
    if not held_out:
        return list(exposures)
    unseen = [exposure for exposure in exposures if not exposure.trained_on(case)]
    own_fold = [exposure for exposure in unseen if exposure.validated_on(case)]
    return own_fold or unseen


def _is_of(case: Case, images: frozenset[str]) -> bool:
    try:
        return case.image_hash in images
    except InputError:  # told when it is the case's turn
        return False
