"""The Dice coefficient."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_dice

from pleural.dice import dice

masks = arrays(bool, (3, 4, 5))
maps = arrays(np.float64, (3, 4, 5), elements=st.floats(0, 1, width=16))


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 1], 1.0),
        ([1, 1, 0, 0], [0, 0, 1, 1], 0.0),
        ([1, 1, 0, 0], [1, 0, 0, 0], 2 * 1 / (2 + 1)),
        ([1, 1, 1, 0], [0, 1, 1, 1], 2 * 2 / (3 + 3)),
        ([0, 0, 0, 0], [0, 0, 0, 0], 1.0),
        ([0, 0, 0, 0], [0, 1, 0, 0], 0.0),
        ([0, 1, 0, 0], [0, 0, 0, 0], 0.0),
        ([0.5, 0.5, 0, 0], [1, 1, 0, 0], (1 + 2 - 1) / (1 + 2)),
    ],
)
@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_hand_worked(prediction, reference, expected, kind):
    assert dice(kind(prediction), kind(reference)) == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(masks, masks)
def test_agrees_with_an_independent_implementation(a, b):
    theirs = compute_dice(
        torch.tensor(a)[None, None].float(), torch.tensor(b)[None, None].float(), ignore_empty=False
    )
    assert dice(a, b) == pytest.approx(float(theirs))


@given(maps, maps)
def test_is_symmetric_and_between_0_and_1(a, b):
    assert dice(a, b) == pytest.approx(dice(b, a))
    assert -1e-9 <= dice(a, b) <= 1 + 1e-9


@given(maps)
def test_is_1_on_itself(a):
    assert dice(a, a) == 1


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float16, np.float32])
def test_takes_any_type_without_overflow(dtype):
    a = np.ones((40, 40, 40), dtype=dtype)
    assert dice(a, a) == pytest.approx(1)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        dice(np.zeros(2), np.zeros(3))
