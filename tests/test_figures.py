"""What the pictures show."""

import numpy as np

from pleural.figures import HALVED, Slice, body_view, contours, dice_curve, preview
from pleural.volume import Volume

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


def test_epochs_of_halved_patches_are_shaded():
    (axes,) = dice_curve([{**row, "halved": row["epoch"] < 2} for row in ROWS], best_epoch=2).axes
    (shade,) = axes.patches
    assert shade.get_label() == HALVED
    assert (shade.get_x(), shade.get_width()) == (-0.5, 2)
    assert not dice_curve(ROWS, best_epoch=2).axes[0].patches


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


def test_a_preview_shows_the_patient_and_not_the_table(phantoms):
    scan, mask = phantoms[0].load()
    figure = preview(scan, mask, "a case")
    assert len(figure.axes) == 6
    assert figure.get_suptitle() == "a case"
    for axes in figure.axes:
        assert axes.get_images()[0].get_array().shape[0] < scan.reoriented().shape[1]
        assert len(axes.collections) == 1  # the contour
    titles = [int(axes.get_title().split()[1]) for axes in figure.axes]
    assert titles == sorted(titles, reverse=True)  # from the head down


def test_a_name_is_no_formula(phantoms, tmp_path):
    name, empty = r"p$_$q", np.zeros((6, 4), bool)  # which mathtext cannot read
    figure = preview(*phantoms[0].load(), name)
    figure.savefig(tmp_path / "preview.png")
    assert figure.get_suptitle() == name
    figure = contours([Slice(name, empty * 1.0, empty, empty)])
    figure.savefig(tmp_path / "slices.png")
    assert figure.axes[0].get_title() == name


def test_a_preview_without_effusion_goes_through_the_scan(phantoms):
    scan, mask = phantoms[0].load()
    figure = preview(scan, mask.with_array(mask.array * 0), "none")
    assert not any(axes.collections for axes in figure.axes)
    assert figure.axes[-1].get_title().startswith("slice 1 of")


def test_a_scan_without_a_body_is_shown_whole():
    air = Volume(np.full((20, 30, 5), -1000, np.int16), np.eye(4))
    assert body_view(air, [0, 2]) == (slice(0, 20), slice(0, 30))
