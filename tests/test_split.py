"""Splits: by patient, seeded, balanced in number and size of effusions, and lasting."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleural.data.case import Case
from pleural.data.split import Split, folds_of, split
from pleural.errors import InputError
from pleural.io import nifti
from pleural.volume import Volume

SMALL_ML, LARGE_ML = 10.0, 600.0


def case(
    name: str, volume_ml: float = 0, patient: str | None = None, distrusted: bool = False
) -> Case:
    """Without files: the volume is known already."""
    mask = Path(f"{name}-mask")
    made = Case(name, patient or name, Path(name), mask=mask, distrusted=distrusted)
    vars(made)["volume_ml"] = volume_ml
    return made


def cases(*volumes_ml: float) -> list[Case]:
    return [case(f"P{number}", volume) for number, volume in enumerate(volumes_ml)]


def unlabelled(name: str) -> Case:
    return Case(name, name, Path(name))


def names(some: Sequence[Case]) -> list[str]:
    return [case.name for case in some]


def all_folds(some: Sequence[Case], n_folds: int = 5, seed: int = 0) -> list[Split]:
    return [split(some, fold, n_folds, seed) for fold in range(n_folds)]


def test_ten_patients_in_five_folds_are_two_each() -> None:
    given = cases(*range(10))
    parts = all_folds(given)
    assert [len(part.validation) for part in parts] == [2] * 5
    validated = Counter(name for part in parts for name in names(part.validation))
    assert validated == Counter(names(given))
    for part in parts:
        assert sorted(names(part.training + part.validation)) == names(given)
        assert part.unlabelled == []


volumes_ml = st.sampled_from([0.0, 20.0, 100.0, 300.0, 900.0])


@given(st.lists(volumes_ml, min_size=5, max_size=30), st.integers(2, 5), st.integers(0, 99))
def test_folds_differ_by_one_patient_at_most(given: list[float], n_folds: int, seed: int) -> None:
    sizes = Counter(folds_of(cases(*given), n_folds, seed).values())
    assert len(sizes) == n_folds
    assert max(sizes.values()) - min(sizes.values()) <= 1


@pytest.mark.parametrize(
    "order",
    [[SMALL_ML, LARGE_ML] * 10, [SMALL_ML] * 10 + [LARGE_ML] * 10],
    ids=["in turn", "small ones first"],
)
def test_each_fold_has_small_and_large_effusions(order: list[float]) -> None:
    for part in all_folds(cases(*order)):
        sizes = sorted(case.volume_ml for case in part.validation)
        assert sizes == [SMALL_ML, SMALL_ML, LARGE_ML, LARGE_ML]


def test_studies_of_one_patient_stay_together() -> None:
    given = [case(f"P{i}_{study}", patient=f"P{i}") for i in range(7) for study in "ab"]
    for part in all_folds(given, n_folds=3):
        training = {case.patient for case in part.training}
        validation = {case.patient for case in part.validation}
        assert not training & validation
        assert len(part.training) == 2 * len(training)
        assert len(part.validation) == 2 * len(validation)


def test_the_largest_effusion_of_a_patient_counts() -> None:
    several = [case("P0_b", LARGE_ML, "P0"), case("P0_a", 0, "P0"), *cases(0, 0, LARGE_ML)[1:]]
    assert folds_of(several, 2, seed=0) == folds_of(cases(LARGE_ML, 0, LARGE_ML), 2, seed=0)


def test_the_seed_decides() -> None:
    given = cases(*[100] * 10)
    assert folds_of(given, 5, seed=1) == folds_of(given, 5, seed=1)
    assert len({tuple(folds_of(given, 5, seed).items()) for seed in range(10)}) > 1


def test_the_order_in_which_cases_come_plays_no_part() -> None:
    given = cases(*range(0, 1000, 50))
    assert folds_of(given[::-1], 5, seed=0) == folds_of(given, 5, seed=0)


@given(
    st.lists(volumes_ml, min_size=5, max_size=15),
    st.lists(volumes_ml, max_size=15),
    st.integers(2, 5),
)
def test_patients_with_later_names_change_no_earlier_fold(
    first: list[float], later: list[float], n_folds: int
) -> None:
    """Names are ``P0`` to ``P29``: later is natural order, where ``P10`` follows on ``P9``."""
    before = folds_of(cases(*first), n_folds, seed=0)
    after = folds_of(cases(*first, *later), n_folds, seed=0)
    assert before.items() <= after.items()
    assert len(after) == len(first) + len(later)


def test_every_case_trains_in_fold_all() -> None:
    given = cases(0, 100)
    part = split(given, "all", n_folds=5, seed=0)
    assert (part.training, part.validation) == (given, [])


@pytest.mark.parametrize(
    ("validation", "found"),
    [
        (["anna_1"], ["anna_1", "anna_2"]),
        (["anna"], ["anna_1", "anna_2"]),
        ("anna", ["anna_1", "anna_2"]),
        (["7", "bert_1"], ["bert_1", "7"]),
        ([7], ["7"]),
        ([], []),
    ],
)
def test_validation_by_name_of_case_or_patient(validation: list[str], found: list[str]) -> None:
    """A case brings the other studies of its patient along; what YAML took for a number is a name.

    The number of folds plays no part.
    """
    given = [
        case("anna_1", patient="anna"),
        case("bert_1", patient="bert"),
        case("anna_2", patient="anna"),
        case("7"),
        case("carl"),
    ]
    part = split(given, 0, n_folds=99, seed=0, validation=validation)
    assert names(part.validation) == found
    assert names(part.training) == [name for name in names(given) if name not in found]


def test_a_fold_beside_names_is_refused() -> None:
    with pytest.raises(InputError, match=r"fold=2 beside split\.validation"):
        split(cases(0, 100, 200), 2, n_folds=3, seed=0, validation="P0")


def test_unlabelled_cases_are_listed_apart() -> None:
    given = [unlabelled("U0"), *cases(0, 100), unlabelled("P9")]
    for part in all_folds(given, n_folds=2):
        assert names(part.unlabelled) == ["U0", "P9"]
        assert sorted(names(part.training + part.validation)) == ["P0", "P1"]
    assert str(split(given, "all", 2, seed=0)) == (
        "training (2): P0, P1\nvalidation (0): none\nunlabelled (2): U0, P9"
    )
    assert "unlabelled" not in str(split(cases(0, 100), "all", 2, seed=0))


def test_distrusted_cases_are_dealt_out_like_all_others_and_told() -> None:
    given = [*cases(0, 100), case("P2", distrusted=True)]
    parts = all_folds(given, n_folds=3)
    assert sorted(names([c for part in parts for c in part.validation])) == ["P0", "P1", "P2"]
    for part in parts:
        assert names(part.distrusted) == ["P2"]
        assert names(part.choosing) == [name for name in names(part.validation) if name != "P2"]
    assert str(split(given, "all", 3, seed=0)).endswith("\ndistrusted of these (1): P2")


@pytest.mark.parametrize(
    ("given", "settings", "sentence"),
    [
        ([], {}, "none of the 0 cases has a mask: nothing to train on"),
        ([unlabelled("U")], {}, "none of the 1 cases has a mask: nothing to train on"),
        (
            cases(0, 0, 0),
            {},
            "3 labelled patients cannot be dealt into n_folds=5: choose n_folds from 2 to 3, or"
            " fold=all",
        ),
        (
            [*cases(0), case("P0_b", patient="P0"), unlabelled("U")],
            {"n_folds": 2},
            "1 labelled patient cannot be dealt into n_folds=2: choose fold=all",
        ),
        (
            cases(0, 0),
            {"n_folds": 1},
            "2 labelled patients cannot be dealt into n_folds=1: choose n_folds from 2 to 2, or"
            " fold=all",
        ),
        (cases(*range(9)), {"fold": 5}, "fold is 0 to 4, or all; got 5"),
        (cases(*range(9)), {"fold": -1}, "fold is 0 to 4, or all; got -1"),
        (cases(*range(9)), {"fold": "al"}, "fold is 0 to 4, or all; got 'al'"),
        (
            [*cases(0, 0), unlabelled("U")],
            {"validation": ["P0", "P2", "U"]},
            "split.validation: no labelled case or patient is called 'P2', 'U'",
        ),
        (
            cases(0, 0),
            {"validation": ["P0", "P1"]},
            "all 2 labelled cases validate: nothing to train on",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(
    given: list[Case], settings: dict[str, int | str | list[str]], sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        split(given, **{"fold": 0, "n_folds": 5, "seed": 0, **settings})
    assert str(caught.value) == sentence


def test_volumes_come_from_the_masks(tmp_path: Path) -> None:
    """One voxel is 300 mL; the negative cases have no file."""
    mask = np.zeros((2, 2, 2), np.uint8)
    mask[0, 0, 0] = 1
    nifti.write(Volume(mask, np.diag([100.0, 100.0, 30.0, 1.0])), tmp_path / "mask.nii")
    some = [
        Case(f"P{i}", f"P{i}", Path("ct"), tmp_path / "mask.nii" if i < 2 else None, {}, i >= 2)
        for i in range(4)
    ]
    assert folds_of(some, 2, seed=3) == folds_of(cases(300, 300, 0, 0), 2, seed=3)


def test_masks_that_cannot_be_read_are_left_to_who_reads_all_cases(tmp_path: Path) -> None:
    (tmp_path / "B-mask.nii").write_bytes(b"damaged")
    some = [Case(name, name, Path("ct"), tmp_path / f"{name}-mask.nii") for name in "AB"]
    assert sorted(folds_of(some, n_folds=2, seed=0).values()) == [0, 1]
