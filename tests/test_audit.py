"""Faults planted into sound chests are found and named, and sound chests raise no suspicion."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from matplotlib.image import imread
from matplotlib.text import Annotation

from pleural.anatomy import chest
from pleural.audit import audit
from pleural.audit.inspection import Inspection, Limits, inspect
from pleural.audit.page import picture
from pleural.audit.placement import grid_difference, grid_suspicions
from pleural.audit.suspicions import Suspicion, hu_suspicions, shifted
from pleural.data.case import Case
from pleural.data.plethora import Plethora
from pleural.errors import Findings, InputError
from pleural.io import nifti
from pleural.volume import Volume
from tests.conftest import ROOT, Source

SPACING_MM = (4, 4, 6)


def shipped(tmp_path: Path, *overrides: str):
    """The task as `python run.py task=audit` builds it."""
    where = [f"data.root={tmp_path}", f"run_dir={tmp_path / 'run'}"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", overrides=["task=audit", *where, *overrides])
    return instantiate(config.task, _convert_="all")


@pytest.fixture(scope="session")
def limits(tmp_path_factory) -> Limits:
    given = shipped(tmp_path_factory.mktemp("conf")).keywords
    return Limits(**{name: given[name] for name in Limits.__dataclass_fields__})


@pytest.fixture(scope="session")
def sound() -> tuple[Volume, np.ndarray]:
    """A chest with 300 mL on the right side, RAS+."""
    made = chest((0, 1), 300, "right", spacing_mm=SPACING_MM, codes="RAS")
    return made.scan, made.effusion.array > 0


def written(folder: Path, scan: Volume, mask: Volume | np.ndarray | None, **about) -> Case:
    nifti.write(scan, folder / "scan.nii.gz")
    about = {"name": "A1", "patient": "A", **about}
    if mask is None:
        return Case(image=folder / "scan.nii.gz", **about)
    if isinstance(mask, np.ndarray):
        mask = scan.with_array(mask.astype(np.uint8))
    nifti.write(mask, folder / "mask.nii.gz")
    return Case(image=folder / "scan.nii.gz", mask=folder / "mask.nii.gz", **about)


def sentences(seen: Inspection) -> list[str]:
    return [suspicion.sentence for suspicion in seen.ranked]


def found(seen: Inspection, pattern: str) -> Suspicion:
    fitting = [one for one in seen.suspicions if re.search(pattern, one.sentence)]
    assert len(fitting) == 1, sentences(seen)
    return fitting[0]


# A sound chest, and one mistake at a time.


@pytest.mark.parametrize(
    ("seed", "volume_ml", "sides", "spacing_mm"),
    [
        (1, 300, "right", (4, 4, 6)),
        (2, 60, "left", (2.5, 2.5, 5)),
        (3, 900, "both", (4, 4, 6)),
        (4, 1500, "both", (6, 6, 12)),
        (5, 40, "right", (6, 6, 12)),
    ],
)
def test_a_sound_chest_is_not_suspicious(tmp_path, limits, seed, volume_ml, sides, spacing_mm):
    made = chest((0, seed), volume_ml, sides, spacing_mm=spacing_mm)
    seen = inspect(written(tmp_path, made.scan, made.effusion), limits)
    assert sentences(seen) == []
    assert seen.score == 0
    assert seen.facts["volume_ml"] == pytest.approx(made.volume_ml, abs=0.01)
    assert seen.facts["mask_grid"] == "same"
    assert seen.facts["outside_fluid"] < 0.02


def fullest(mask: np.ndarray) -> int:
    return int(mask.sum(axis=(0, 1)).argmax())


def without_slices(mask: np.ndarray, first: int, last: int) -> np.ndarray:
    cut = mask.copy()
    cut[..., first : last + 1] = False
    return cut


def without_front(mask: np.ndarray) -> np.ndarray:
    cut = mask.copy()
    cut[:, int(np.median(np.nonzero(mask)[1])) :] = False
    return cut


def with_hole(mask: np.ndarray) -> np.ndarray:
    z = fullest(mask)
    inside = np.argwhere(mask[..., z])
    deepest = max(inside, key=lambda v: mask[v[0] - 3 : v[0] + 4, v[1] - 3 : v[1] + 4, z].sum())
    cut = mask.copy()
    cut[deepest[0] : deepest[0] + 2, deepest[1] : deepest[1] + 2, z] = False
    return cut


def with_speck(mask: np.ndarray) -> np.ndarray:
    more = mask.copy()
    more[mask.shape[0] // 2, -12, fullest(mask)] = True
    return more


def moved(mask: np.ndarray, x: int, y: int, z: int) -> np.ndarray:
    return shifted(shifted(shifted(mask, 0, -x), 1, -y), 2, -z)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda m: m[::-1], r"better when flipped left to right: 100% instead of \d%"),
        (lambda m: m[:, ::-1], r"better when flipped front to back: 100% instead of \d\d%"),
        (lambda m: m[..., ::-1], r"better when flipped head to foot: 100% instead of \d\d%"),
        (lambda m: m[::-1, ::-1], "flipped left to right and front to back:"),
        (lambda m: moved(m, 0, 8, 0), r"\d\d% of the mask lies outside fluid densities"),
        (lambda m: moved(m, 0, 8, 0), r"\d\d% of the mask is air"),
        (lambda m: moved(m, -9, 15, 0), r"the median of the mask is -\d+ HU"),
        (lambda m: without_slices(m, fullest(m) + 1, 99), "ends abruptly above slice"),
        (lambda m: without_slices(m, 0, fullest(m) - 1), "ends abruptly below slice"),
        (without_front, r"beyond \d\d% of the mask's border \(\d+ of \d+ cm²\)"),
        (lambda m: without_slices(m, fullest(m), fullest(m)), r"skips slice \d+, up to"),
        (with_hole, r"has holes of 0\.\d+ mL, most of it in slice \d+"),
        (with_speck, r"1 speck below 0\.1 mL lies \d+ mm from the rest"),
    ],
)
def test_a_planted_fault_is_found(tmp_path, limits, sound, fault, told):
    scan, mask = sound
    suspicion = found(inspect(written(tmp_path, scan, fault(mask)), limits), told)
    assert suspicion.weight > 0


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda m: without_slices(m, fullest(m), fullest(m)), "skips slice"),
        (with_hole, "has holes"),
        (with_speck, "speck"),
        (without_front, "beyond"),
    ],
)
def test_a_small_fault_is_told_alone_and_where_it_lies(tmp_path, limits, sound, fault, told):
    scan, mask = sound
    faulty = fault(mask)
    seen = inspect(written(tmp_path, scan, faulty), limits)
    (suspicion,) = seen.suspicions
    assert told in suspicion.sentence
    x, y, z = suspicion.place
    changed = mask != faulty
    assert changed[x - 2 : x + 3, y - 2 : y + 3, z].any()
    if "slice" in suspicion.sentence:
        assert f"slice {z + 1}" in suspicion.sentence


def test_the_end_of_a_cut_mask_is_where_it_was_cut(tmp_path, limits, sound):
    scan, mask = sound
    cut = fullest(mask)
    seen = inspect(written(tmp_path, scan, without_slices(mask, cut + 1, 99)), limits)
    assert found(seen, "ends abruptly").place[2] == cut
    assert f"above slice {cut + 1}," in found(seen, "ends abruptly").sentence


def test_a_gap_on_one_side_shows_beside_a_whole_other_side(tmp_path, limits):
    made = chest((0, 3), 900, "both", spacing_mm=SPACING_MM, codes="RAS")
    mask = made.effusion.array > 0
    gap = fullest(mask) + 2
    mask[mask.shape[0] // 2 :, :, gap] = False
    seen = inspect(written(tmp_path, made.scan, mask), limits)
    assert f"skips slice {gap + 1}," in found(seen, "skips").sentence


def test_a_lung_that_floats_in_fluid_is_no_hole(tmp_path, limits, sound):
    scan, mask = sound
    holed = with_hole(mask)
    hu = np.where(mask & ~holed, -800, scan.array).astype(np.int16)
    assert not [s for s in sentences(inspect(written(tmp_path, scan, holed), limits)) if "air" in s]
    seen = inspect(written(tmp_path, scan.with_array(hu), holed), limits)
    assert not [s for s in sentences(seen) if "hole" in s]


def test_bone_in_the_mask_is_named(tmp_path, limits, sound):
    scan, mask = sound
    hu = scan.array.copy()
    hu[np.nonzero(mask)[0][::20], np.nonzero(mask)[1][::20], np.nonzero(mask)[2][::20]] = 900
    seen = inspect(written(tmp_path, scan.with_array(hu), mask), limits)
    (sentence,) = sentences(seen)
    assert sentence.startswith("5% of the mask is bone or contrast (above 300 HU)")


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (lambda x, y, z: np.s_[:, :, z:], "lowest slice"),
        (lambda x, y, z: np.s_[:, :, : z + 1], "highest slice"),
        (lambda x, y, z: np.s_[: x + 1, :, :], "right side"),
    ],
)
def test_a_scan_that_cuts_the_effusion_off_is_told(tmp_path, limits, sound, part, name):
    scan, mask = sound
    box = part(*np.median(np.nonzero(mask), axis=1).astype(int))
    seen = inspect(written(tmp_path, scan.cropped(box), mask[box]), limits)
    assert sentences(seen) == [f"the mask reaches the scan's {name}, which cuts the effusion off"]


# The scan.


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda hu: hu * 0.5, "most air lies near -4"),
        (lambda hu: hu + 300, "most air lies near -6"),
        (lambda hu: hu * 2, "most air lies near -1"),
    ],
)
def test_another_slope_or_offset_is_told(sound, change, told):
    scan, _ = sound
    values = [one.sentence for one in hu_suspicions(scan.with_array(change(scan.array)))]
    assert told in values[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda hu: np.where(hu < -300, -2000, hu), True),
        (lambda hu: hu.clip(-300), True),
        (lambda hu: np.where(hu < -300, -1000, hu), False),  # clipped to what air has
    ],
)
def test_a_scan_without_air_is_told_and_no_air_is_invented(sound, change, told):
    scan, _ = sound
    sentences = [one.sentence for one in hu_suspicions(scan.with_array(change(scan.array)))]
    assert any("nothing but padding lies below -300 HU" in one for one in sentences) == told
    assert not any("most air" in one for one in sentences)


def test_a_scan_that_is_wrong_in_two_ways_still_has_its_mask_looked_at(tmp_path, limits, sound):
    scan, mask = sound
    raw = np.where(disc(scan), scan.array.clip(-1024) + 1024, -2000)
    seen = inspect(written(tmp_path, scan.with_array(raw.astype(np.int16)), mask), limits)
    assert [one.weight for one in seen.suspicions[:2]] == [4, 4]
    assert "open_border" in seen.facts


def disc(scan: Volume) -> np.ndarray:
    """The reconstructed circle of a scanner, in each slice."""
    x, y = (np.linspace(-1, 1, n) for n in scan.shape[:2])
    return np.broadcast_to((x[:, None] ** 2 + y**2 < 1)[..., None], scan.shape)


def test_padding_that_looks_like_tissue_is_told_and_other_padding_is_not(sound):
    scan, _ = sound
    told = {}
    for padding in (0, -1024, -3024):
        padded = scan.with_array(np.where(disc(scan), scan.array, padding).astype(np.int16))
        told[padding] = [one.sentence for one in hu_suspicions(padded)]
    assert told == {
        0: ["all corners of the slices hold 0 HU: padding that looks like tissue"],
        -1024: [],
        -3024: [],
    }


# Grids.


def on_grid(shape=(10, 8, 6), spacing_mm=(2.0, 2.0, 5.0)) -> Volume:
    return Volume(np.ones(shape, np.uint8), np.diag([*spacing_mm, 1.0]))


def turned(volume: Volume, degrees: float) -> Volume:
    turn = np.eye(4)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn[:2, :2] = [[cosine, -sine], [sine, cosine]]
    return Volume(volume.array, turn @ volume.affine)


@pytest.mark.parametrize(
    ("mask", "difference"),
    [
        (on_grid(), "same"),
        (on_grid().reoriented("RPS"), "flipped front to back"),
        (on_grid().reoriented("LPI"), "flipped left to right and front to back and head to foot"),
        (on_grid().reoriented("SAR"), "axes in the order SAR instead of RAS"),
        (on_grid().resampled((4, 4, 5)), "voxels of 4 x 4 x 5 mm instead of 2 x 2 x 5 mm"),
        (on_grid().cropped((slice(2, 9), slice(None), slice(None))), "another extent"),
        (turned(on_grid(), 3), "turned by 3.0 degrees"),
        (
            on_grid().resampled((4, 4, 5)).reoriented("LAS"),
            "flipped left to right, voxels of 4 x 4 x 5 mm instead of 2 x 2 x 5 mm",
        ),
    ],
)
def test_grids_are_compared_in_words(mask, difference):
    assert grid_difference(mask, on_grid()) == difference


def test_a_grid_is_suspicious_only_where_it_matters(tmp_path, limits, sound):
    scan, mask = sound
    placed = scan.with_array(mask.astype(np.uint8))
    for harmless in (placed.reoriented("LPI"), placed.reoriented("SAR")):
        seen = inspect(written(tmp_path, scan, harmless), limits)
        assert sentences(seen) == []
        assert seen.facts["mask_grid"] != "same"
    coarser = grid_suspicions(on_grid().resampled((2, 2, 10)), on_grid(), on_grid().nonzero_ml)
    assert [one.sentence for one in coarser] == [
        "the mask is coarser than its scan: it has voxels of 2 x 2 x 10 mm,"
        " the scan of 2 x 2 x 5 mm"
    ]
    off = grid_suspicions(on_grid(), on_grid(), 0.7 * on_grid().nonzero_ml)
    assert [one.sentence for one in off] == ["only 70% of the mask lies on its scan"]


# Cases that cannot be used, and those without a mask.


def test_what_cannot_be_read_is_a_finding(tmp_path, limits, sound):
    case = written(tmp_path, *sound)
    case.image.write_bytes(b"damaged")
    case.mask.unlink()
    seen = inspect(case, limits)
    image_told, mask_told = sentences(seen)
    assert f"{case.image}: cannot be read" in image_told
    assert f"{case.mask}: there is no such file" in mask_told
    assert seen.scan is None


@pytest.mark.parametrize(
    ("change_scan", "change_mask", "about", "told"),
    [
        (None, lambda m: m & False, {}, "mask: the mask is empty"),
        (None, lambda m: m * 2 + m[::-1], {}, "mask: a mask holds 0 and one positive value"),
        (None, lambda m: m, {"negative": True}, "mask: listed as negative, but its mask holds 300"),
        (lambda hu: hu.clip(0), lambda m: m, {}, "scan: no voxel below -500"),
        (lambda hu: np.where(hu > 99, np.nan, hu), lambda m: m, {}, "scan: .* are NaN"),
    ],
)
def test_what_cannot_be_used_is_told(
    tmp_path, limits, sound, change_scan, change_mask, about, told
):
    scan, mask = sound
    if change_scan:
        scan = scan.with_array(change_scan(scan.array).astype(np.float32))
    seen = inspect(written(tmp_path, scan, change_mask(mask).astype(np.uint8), **about), limits)
    (sentence,) = sentences(seen)
    assert re.match(told, sentence)
    assert seen.score == 8
    assert picture(seen).axes


def test_a_mask_beside_its_scan_is_told(tmp_path, limits, sound):
    scan, mask = sound
    affine = scan.affine.copy()
    affine[0, 3] += 400
    seen = inspect(written(tmp_path, scan, Volume(mask.astype(np.uint8), affine)), limits)
    assert "only 0% of the mask lies on its scan" in found(seen, "mask: ").sentence
    assert seen.facts["mask_grid"] == "another extent"


def test_cases_without_a_mask_are_not_suspicious(tmp_path, limits, sound):
    scan, _ = sound
    seen = inspect(written(tmp_path, scan, None), limits)
    assert sentences(seen) == ["unlabelled: only the scan was looked at"]
    assert seen.score == 0
    assert sentences(inspect(written(tmp_path, scan, None, negative=True), limits)) == []


def test_readers_are_compared_with_the_reference(tmp_path, limits, sound):
    scan, mask = sound
    same = written(tmp_path, scan, mask)
    readers = {name: tmp_path / f"{name}.nii.gz" for name in ("second", "third", "fourth", "fifth")}
    nifti.write(scan.with_array(mask.astype(np.uint8)).reoriented("LPS"), readers["second"])
    nifti.write(scan.with_array(without_front(mask).astype(np.uint8)), readers["third"])
    readers["fourth"].write_bytes(b"damaged")
    nifti.write(scan, readers["fifth"])
    seen = inspect(replace(same, readers=readers), limits)
    assert seen.facts["dice_second"] == 1
    assert len(seen.suspicions) == 3
    assert f"Dice of only {seen.facts['dice_third']:.2f}" in found(seen, "the third").sentence
    assert "cannot be read" in found(seen, "the fourth reader's mask").sentence
    assert "dice_fifth" not in seen.facts
    assert "one positive value" in found(seen, "the fifth reader's mask").sentence


def test_what_is_beyond_a_limit_of_nothing_weighs_most(tmp_path, sound):
    scan, mask = sound
    bright = scan.array.copy()
    bright[tuple(np.argwhere(mask)[0])] = 500
    scan = scan.with_array(bright)
    other = tmp_path / "second.nii.gz"
    nifti.write(scan.with_array(without_front(mask).astype(np.uint8)), other)
    case = replace(written(tmp_path, scan, mask), readers={"second": other})
    strict = Limits([-100, 150], most_outside_share=0, most_open_share=0, least_reader_dice=1)
    seen = inspect(case, strict)
    assert found(seen, "outside fluid densities").weight == 6
    assert found(seen, "the second reader's mask").weight == 6


@pytest.mark.parametrize(
    "setting",
    ["fluid_hu=[150,-100]", "most_outside_share=1.1", "most_open_share=-1", "least_reader_dice=2"],
)
def test_limits_that_are_none_are_refused(tmp_path, phantoms, setting):
    key, _, _ = setting.partition("=")
    with pytest.raises(InputError, match=rf"task\.{key} is"):
        shipped(tmp_path, f"task.{setting}")(data=Source(phantoms))


# Pictures and the whole audit.


def test_the_picture_shows_the_place_as_radiologists_look_at_it(tmp_path, limits, sound):
    scan, mask = sound
    seen = inspect(written(tmp_path, scan, with_speck(mask)), limits)
    (axes,) = picture(seen).axes
    (suspicion,) = seen.suspicions
    assert axes.get_title() == f"slice {suspicion.place[2] + 1} of {scan.shape[2]}"
    shown = np.asarray(axes.images[0].get_array())
    (arrow,) = [text for text in axes.texts if isinstance(text, Annotation)]
    column, row = arrow.xy
    assert shown[row, column] == scan.array[suspicion.place]
    assert row < shown.shape[0] / 2  # the speck lies in front
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["R", "L"]


def test_without_a_suspicion_the_fullest_slice_is_shown(tmp_path, limits, sound):
    scan, mask = sound
    seen = inspect(written(tmp_path, scan, mask), limits)
    (axes,) = picture(seen).axes
    assert axes.get_title() == f"slice {fullest(mask) + 1} of {scan.shape[2]}"
    right = axes.collections[0].get_paths()[0].vertices[:, 0].mean()
    assert right < np.asarray(axes.images[0].get_array()).shape[1] / 2  # the effusion's side


@pytest.fixture
def mixed(tmp_path, sound) -> list[Case]:
    """A sound case and its copy, a flipped mask, a damaged image; two are of one patient."""
    scan, mask = sound
    for name in ("good", "flipped", "copy", "damaged"):
        (tmp_path / name).mkdir()
    good = written(tmp_path / "good", scan, mask, name="good", patient="A")
    other = chest((0, 5), 300, "left", spacing_mm=SPACING_MM, codes="RAS")
    wrong = other.effusion.array[:, ::-1] > 0
    flipped = written(tmp_path / "flipped", other.scan, wrong, name="flipped", patient="B")
    shutil.copy(good.image, tmp_path / "copy" / "scan.nii.gz")
    copy = replace(good, name="copy", patient="B", image=tmp_path / "copy" / "scan.nii.gz")
    damaged = written(tmp_path / "damaged", scan, mask, name="damaged", patient="C")
    damaged.image.write_bytes(b"damaged")
    return [good, flipped, copy, damaged]


def test_an_audit_ranks_tells_and_shows(tmp_path, mixed, capsys):
    run = tmp_path / "run"
    task = shipped(tmp_path)
    assert task.func is audit
    assert task(data=Source(mixed)) == 4
    out = capsys.readouterr().out
    assert [f"[{n}/4] {case.name}" in out for n, case in enumerate(mixed, start=1)] == [True] * 4
    assert "4 of 4 cases are suspicious" in out
    assert str(run / "audit.md") in out
    with (run / "audit.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows][2:] == ["copy", "good"]
    assert {row["name"] for row in rows[:2]} == {"flipped", "damaged"}
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    by_name = {row["name"]: row for row in rows}
    assert "the image is that of good, byte for byte" in by_name["copy"]["sentences"]
    assert "the image is that of copy, byte for byte" in by_name["good"]["sentences"]
    assert "flipped front to back" in by_name["flipped"]["sentences"]
    assert "its patient has more cases (copy)" in by_name["flipped"]["sentences"]
    assert "damaged" in by_name["damaged"]["sentences"]
    record = json.loads((run / "audit.json").read_text(encoding="utf-8"))
    assert [case["name"] for case in record["cases"]] == [row["name"] for row in rows]
    page = (run / "audit.md").read_text(encoding="utf-8")
    for case in record["cases"]:
        assert all(one["sentence"] in page for one in case["found"])
        assert (case["picture"] is None) == (case["name"] == "damaged")
    links = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert sorted(links) == sorted(f"pictures/{p.name}" for p in (run / "pictures").iterdir())
    assert f"pictures/{int(by_name['good']['rank']):02d}_good.png" in links
    assert all(imread(run / link).std() > 0.05 for link in links)


def test_one_patient_twice_is_no_suspicion(tmp_path, limits, sound, capsys):
    scan, mask = sound
    (tmp_path / "later").mkdir()
    first = written(tmp_path, scan, mask)
    grainier = scan.with_array(scan.array + 1)
    second = written(tmp_path / "later", grainier, mask, name="A2")
    assert shipped(tmp_path)(data=Source([first, second])) == 0
    assert "0 of 2 cases are suspicious" in capsys.readouterr().out
    page = (tmp_path / "run" / "audit.md").read_text(encoding="utf-8")
    assert "- **0.0** its patient has more cases (A2)" in page


def test_a_check_that_fails_does_not_end_the_audit(tmp_path, sound, monkeypatch, capsys):
    def fails(case, limits):
        raise MemoryError("too large")

    (tmp_path / "run" / "pictures").mkdir(parents=True)
    (tmp_path / "run" / "pictures" / ".A1.png").touch()  # left by an audit that was interrupted
    (tmp_path / "run" / "pictures" / "07_A1.png").touch()  # another audit's of the same name
    monkeypatch.setattr("pleural.audit.task.inspect", fails)
    case = written(tmp_path, *sound)
    assert shipped(tmp_path)(data=Source([case])) == 1
    assert "[1/1] A1  score 8.0: the check failed (too large)" in capsys.readouterr().out
    assert not list((tmp_path / "run" / "pictures").iterdir())
    with pytest.raises(MemoryError):
        shipped(tmp_path, "debug=true")(data=Source([case]))


def test_a_source_that_finds_no_cases_ends_the_audit(tmp_path):
    class Broken:
        def cases(self):
            raise Findings("DIR cannot be used:", ["A1: two scans"])

    with pytest.raises(Findings, match="two scans"):
        shipped(tmp_path)(data=Broken())


def test_of_the_real_masks_the_two_poor_ones_come_first(plethora_root, limits):
    """LUNG1-013: half of it is no fluid. LUNG1-005: a rim of what it should hold."""
    seen = [inspect(case, limits) for case in Plethora(plethora_root).cases()]
    ranked = sorted(seen, key=lambda one: -one.score)
    assert [one.case.name for one in ranked[:2]] == ["LUNG1-013", "LUNG1-005"]
    by_name = {one.case.name: one for one in seen}
    assert "50% of the mask lies outside fluid" in sentences(by_name["LUNG1-013"])[0]
    assert "incomplete?" in sentences(by_name["LUNG1-005"])[0]
    assert sentences(by_name["LUNG1-008"]) == sentences(by_name["LUNG1-016"]) == []
    assert {one.facts["mask_grid"] for one in seen} == {"flipped front to back"}
