"""What the pictures show."""

import numpy as np

from pleural.figures import Slice, contours, dice_curve

ROWS = [
    {"epoch": 0, "train_dice": 0.1, "val_dice": 0.2},
    {"epoch": 1, "train_dice": 0.3},
    {"epoch": 2, "train_dice": 0.4, "val_dice": 0.5},
]


def test_the_curve_has_named_axes_and_marks_the_best_epoch():
    (axes,) = dice_curve(ROWS, best_epoch=2).axes
    assert axes.get_xlabel() == "epoch"
    assert axes.get_ylabel() == "Dice"
    assert axes.get_ylim() == (0, 1)
    labels = axes.get_legend_handles_labels()[1]
    assert "best epoch 2: 0.500" in labels


def test_epochs_that_were_not_validated_are_left_out():
    (axes,) = dice_curve(ROWS, best_epoch=2).axes
    validation = next(line for line in axes.lines if "validation" in str(line.get_label()))
    np.testing.assert_array_equal(validation.get_xdata(), [0, 2])


def test_without_validation_there_is_a_training_curve():
    (axes,) = dice_curve([{"epoch": 0, "train_dice": 0.1}], best_epoch=0).axes
    assert len(axes.lines) == 1


def test_slices_are_shown_as_radiologists_look_at_them():
    image = np.zeros((6, 4))
    image[5, 3] = 1  # the patient's right, anterior
    empty = np.zeros((6, 4), bool)
    (axes,) = contours([Slice("a", image, empty, empty)]).axes
    shown = axes.images[0].get_array()
    assert shown.shape == (4, 6)
    assert shown[0, 0] == 1  # top left
