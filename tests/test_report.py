"""Reports: what they say, that nothing gets in or out, and how they behave in a browser."""

import base64
import csv
import json
import shutil
import zlib
from dataclasses import asdict, replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from pleural.errors import InputError
from pleural.evaluate import evaluate
from pleural.figures import HALVED
from pleural.io import nifti
from pleural.measure import measure
from pleural.prediction_folder import PredictionFolder
from pleural.report import case_table, overlay, plots, report, stills, viewer
from pleural.report.slices import PREDICTION, REFERENCE, Slices, outlines
from pleural.report.task import page_of
from pleural.run_folder import RunFolder
from pleural.volume import Volume
from tests.browser import chromium
from tests.conftest import Source

HOSTILE = "<script>alert(1)</script><b>&amp;\"'"
VERSIONS = {"python": "3.11", "pleural": "0.1.0", "code": "abc"}
ARROW_LEFT, ENTER = "\ue012", "\ue007"  # as WebDriver calls these keys


def made(run, run_dir, pictures=40, viewers=2):
    """The number that the task returns, and the page."""
    number = report(run, pictures=pictures, viewers=viewers, width_px=64, run_dir=run_dir)
    return number, (run_dir / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def judged(phantoms, half, tmp_path_factory):
    """An evaluation; the first two cases have a second reader, who agrees with the reference."""
    folder = tmp_path_factory.mktemp("evaluation")
    read = [replace(case, readers={"Reader 2": case.mask}) for case in phantoms[:2]]
    evaluate(Source([*read, phantoms[2]]), half, None, 3.0, 10.0, folder)
    return folder


@pytest.fixture(scope="module")
def predicted(phantoms, half, tmp_path_factory):
    folder = PredictionFolder(tmp_path_factory.mktemp("prediction"))
    runs = [{"path": "runs/one", "weights_sha256": "ab" * 32}]
    studies = []
    for case in phantoms:
        shutil.copy(half / f"{case.name}.nii.gz", folder.path)
        folder.masks.mkdir(exist_ok=True)
        shutil.copy(half / f"{case.name}.nii.gz", folder.mask(case.name))
        found = measure(nifti.read(folder.mask(case.name)), case.load()[0], 10.0)
        found = replace(found, sides_sure=case is not phantoms[2])
        study = {"name": case.name, "patient": case.patient, "image": str(case.image)}
        study |= {
            "measurement": asdict(found),
            "unsure_ml": 12.5 if case is phantoms[1] else 0.0,
            "known_as": {},
            "trained_on_by": [],
            "seconds": {"read": 1.0},
        }
        folder.save_study(study)
        studies.append(study)
    failed = {"name": "broken", "image": "broken.nii", "reason": "broken.nii: no such file"}
    folder.save_tables(studies, [failed])
    asked = {"mirror": "", "probability": False, "detection_ml": 10.0, "held_out": True}
    about = {"versions": VERSIONS, "runs": runs, "left_out": ["seen"], "failed": ["broken"]}
    folder.save_record(about | asked)
    return folder.path


def write_training(folder, names=("one", "two"), **changes):
    """Three epochs, the second the best; half of the first case is found, nothing of the second."""
    run = RunFolder(folder)
    columns = [f"val_dice_{name}" for name in names]
    dice = ((0.1, 0.2), (0.5, 0.3), (0.4, 0.1))
    rows = [
        {
            "epoch": n,
            "train_dice": 0.1 * n,
            "val_dice": sum(of) / 2,
            **dict(zip(columns, of, strict=True)),
        }
        for n, of in enumerate(dice)
    ]
    run.save_metrics(rows)
    cases = [{"name": name, "patient": name} for name in names]
    scores = [
        {"name": name, "dice": dice, "reference_ml": 100.0, "predicted_ml": 100 * dice} | unsure
        for name, dice, unsure in zip(names, (0.5, 0.0), ({"unsure_ml": 7.5}, {}), strict=True)
    ]
    split = {"training": [{"name": "three", "patient": "three"}], "validation": cases}
    about = {"versions": VERSIONS, "seed": 0, "finished": True, "split": split}
    result = {"best_epoch": 1, "epochs": 3, "cases": scores, "seconds": {"train": 90.0}}
    run.save_record(about | result | changes)
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return write_training(tmp_path_factory.mktemp("training")).path


@pytest.fixture(scope="module")
def hostile(judged, tmp_path_factory):
    """The evaluation again, of a case and a reader whose names are HTML."""
    folder = tmp_path_factory.mktemp("hostile")
    record = json.loads((judged / "summary.json").read_text(encoding="utf-8"))
    files = record["files"]
    record["files"] = {HOSTILE if name == "phantom_001" else name: files[name] for name in files}
    files["phantom_001"]["readers"] = {HOSTILE: files["phantom_001"]["reference"]}
    record["readers"][HOSTILE] = record["readers"].pop("Reader 2")
    record["readers"]["model"]["missed"] = [HOSTILE]
    (folder / "summary.json").write_text(json.dumps(record), encoding="utf-8")
    with (judged / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["name"] = HOSTILE if row["name"] == "phantom_001" else row["name"]
        row["reader"] = HOSTILE if row["reader"] == "Reader 2" else row["reader"]
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


class Parts(HTMLParser):
    """Elements of a page with their attributes, and the text of table heads, cells and headings."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())

    def count(self, tag):
        return sum(element == tag for element, _ in self.elements)


# What it says


def test_a_training_says_whether_validation_chose_the_epoch(trained, tmp_path):
    for folder, chose in ((trained, True), (write_training(tmp_path, kept="last").path, False)):
        page = page_of(folder)
        said = " ".join([*page.words, *page.cautions])
        assert ("chosen by these very scans" in said) == chose
        assert ("It did best at epoch 1" in said) == chose


def test_an_evaluation_is_told_in_plain_words(judged):
    page = page_of(judged)
    assert page.words[0] == "The model found 2 of 3 effusions."
    assert page.words[1].startswith("Mean Dice 0.56 [")
    assert page.words[1].endswith("over 3 patients: too few to tell small differences from chance.")
    assert any("Missed" in sentence and "phantom_002" in sentence for sentence in page.cautions)


def test_worst_comes_first_and_a_false_alarm_is_as_bad_as_a_miss(judged, tmp_path):
    assert [study.name for study in page_of(judged).studies] == [
        *("phantom_002", "phantom_001", "phantom_000")
    ]
    shutil.copytree(judged, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "cases.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    row = next(r for r in rows if (r["name"], r["reader"]) == ("phantom_000", "model"))
    row |= {"reference_ml": "0.0", "dice": "0.0", "found": "True", "sensitivity": ""}
    row["absolute_volume_error_ml"] = "5000"
    with (tmp_path / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    page = page_of(tmp_path)
    assert page.studies[0].name == "phantom_000"
    assert page.cases.rows[0]["dice"] is None  # no overlap to speak of
    assert any("On 1 of 1 scan without effusion" in sentence for sentence in page.words)


def test_readers_stand_beside_the_model(judged):
    page = page_of(judged)
    key = next(column.key for column in page.cases.columns if column.title == "Dice, Reader 2")
    assert {row["name"]: row[key] for row in page.cases.rows} == {
        **{"phantom_000": 1.0, "phantom_001": 1.0, "phantom_002": None}
    }
    (readers,) = page.tables.values()
    assert [row["reader"] for row in readers.rows] == [
        *("model", "Reader 2", "model, where Reader 2 read")
    ]
    assert readers.rows[1]["dice"].startswith("1.00")


def test_other_predictions_are_compared_with_a_test(phantoms, half, tmp_path):
    evaluate(Source(phantoms), half, half, 3.0, 10.0, tmp_path)
    page = page_of(tmp_path)
    assert "Dice, other predictions" in [column.title for column in page.cases.columns]
    compared = page.tables["Compared with the other predictions"].rows
    assert compared[0]["of"] == "Mean Dice"
    assert {row["p"] for row in compared} == {1.0}


def test_a_prediction_is_told_in_plain_words_largest_first(predicted):
    page = page_of(predicted)
    volumes = [row["volume_ml"] for row in page.cases.rows]
    assert volumes == sorted(volumes, reverse=True)
    assert page.words[0] == "An effusion of 10 mL or more in 2 of 3 scans."
    assert page.words[1].startswith("The largest is that of phantom_000: ")
    cautions = " ".join(page.cautions)
    assert "seen" in cautions
    assert "broken failed: broken.nii: no such file" in cautions
    assert "is unsure of its inside" in cautions
    assert "phantom_001 (12.5 mL)." in cautions
    assert "phantom_000 (" not in cautions
    assert "to tell right from left, which may be wrong: phantom_002." in cautions


def test_a_prediction_says_which_runs_predicted_and_what_chose_them(predicted, tmp_path):
    shutil.copytree(predicted, tmp_path, dirs_exist_ok=True)
    folder = PredictionFolder(tmp_path)
    record = folder.load_record()
    assert "Each case by those of these runs that did not train on it" in page_of(predicted).facts
    assert not any("choose the epoch" in sentence for sentence in page_of(predicted).cautions)
    folder.save_record({**record, "held_out": False, "chosen_on": ["phantom_001"]})
    page = page_of(tmp_path)
    assert {"By the run", "By the mean of the runs"} & {*page.facts}
    assert any("new scans: phantom_001." in sentence for sentence in page.cautions)


def test_a_training_is_told_in_plain_words(trained):
    page = page_of(trained)
    assert page.words[0] == (
        "The network learned from 1 scan of 1 patient and was judged on 2 scans of 2 patients."
    )
    assert page.words[1].startswith("Mean Dice 0.25 [")
    assert "It did best at epoch 1 of 3, counted from 0." in page.words
    assert page.words[-1] == "No part of the effusion was found in two."
    assert [row["name"] for row in page.cases.rows] == ["two", "one"]
    assert page.facts["Time"] == "train 1.5 min"
    assert "look for yourself: one (7.5 mL)." in page.cautions[-1]


def test_brackets_are_explained_where_there_are_some(trained, tmp_path):
    run = write_training(tmp_path)
    record = run.load_record()
    one = {"split": {**record["split"], "validation": record["split"]["validation"][:1]}}
    run.save_record(record | one | {"cases": record["cases"][:1]})
    for folder, explained in ((trained, True), (tmp_path, False)):
        words = page_of(folder).words
        assert ("[" in words[1]) is explained
        assert ("Square brackets" in words[2]) is explained


def test_a_training_validated_by_scans_without_effusion_has_no_mean_dice(tmp_path):
    run = write_training(tmp_path)
    record = run.load_record()
    healthy = [{**case, "reference_ml": 0.0} for case in record["cases"]]
    run.save_record({**record, "cases": healthy})
    text = " ".join(page_of(tmp_path).words)
    assert "None of these has an effusion, so there is no mean Dice." in text
    assert "over 0" not in text
    assert "It did best at epoch 1 of 3" in text


def test_a_training_says_what_it_started_from(trained, tmp_path):
    assert "Started from" not in page_of(trained).facts
    run = write_training(tmp_path)
    start = {"run": "outputs/train/first", "weights_sha256": "", "training": [{}, {}]}
    run.save_record(run.load_record() | {"start": start})
    told = page_of(tmp_path).facts["Started from"]
    assert told == "outputs/train/first, which learnt from 2 scans"


def test_a_training_that_goes_on_has_a_report_too(tmp_path):
    run = write_training(tmp_path)
    record = run.load_record()
    for name in ("best_epoch", "epochs", "cases", "seconds"):
        del record[name]
    run.save_record(record | {"finished": False})
    page = page_of(tmp_path)
    assert page.words == [
        "The network learned from 1 scan of 1 patient. It has not come to its end: 3 epochs so far."
    ]
    assert page.charts[0].name == "dice"
    run.metrics.unlink()
    assert page_of(tmp_path).charts == []


@pytest.mark.parametrize("content", [{}, {"run.json": "{}"}, {"summary.json": '{"mean": {}}'}])
def test_any_other_folder_is_refused_in_a_sentence(tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"no folder of results; .*predict\.json") as told:
        page_of(tmp_path)
    assert "\n" not in str(told.value)


def test_a_missing_image_is_a_sentence_in_the_place_of_its_pictures(judged, tmp_path):
    shutil.copytree(judged, tmp_path, dirs_exist_ok=True)
    record = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    record["files"]["phantom_002"]["image"] = "/nowhere/ct.nii.gz"
    (tmp_path / "summary.json").write_text(json.dumps(record), encoding="utf-8")
    number, text = made(tmp_path, tmp_path)
    assert number == 3
    assert "No picture: /nowhere/ct.nii.gz: there is no such file or folder" in text
    assert text.count("data:image/jpeg") == 2 * overlay.N_PICTURES
    assert Parts(text).count("option") == 1  # of the two worst, one can be looked through


def test_pictures_and_viewers_are_for_the_worst(judged, tmp_path):
    number, text = made(judged, tmp_path, pictures=2, viewers=1)
    assert number == 3
    assert Parts(text).count("article") == 2
    assert Parts(text).count("option") == 1
    assert "Cases without pictures here: 1 (see the table)." in text


def test_plots_come_as_files_too(judged, tmp_path):
    made(judged, tmp_path, viewers=0)
    for name in ("bland_altman.png", "bands.png"):
        assert imread(tmp_path / name).shape[2] == 4


def test_tables_are_read_back_as_values(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("name,dice,found,hd95_mm\n12,0.5,True,\n", encoding="utf-8")
    assert case_table.read(path) == [{"name": "12", "dice": 0.5, "found": True, "hd95_mm": None}]
    path.write_text("name,dice\n12,much\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"cases\.csv: cannot be read as a table"):
        case_table.read(path)


# Nothing gets in or out


def test_the_page_asks_for_nothing(judged, predicted, trained, tmp_path):
    for run in (judged, predicted, trained):
        _, text = made(run, tmp_path)
        for tag, attributes in Parts(text).elements:
            for name in ("src", "href", "srcset", "action", "data"):
                address = attributes.get(name) or "#"
                assert address.startswith(("#", "data:image/")), (tag, address[:80])
            assert tag not in ("link", "iframe", "object", "embed", "base")
        assert "default-src 'none'" in text
        assert "@import" not in text and "url(" not in text.split("</style>")[0]
        assert '"showSendToCloud": true' not in text
        assert "showSendToCloud: false" in text


def test_names_are_shown_and_never_run(judged, hostile, tmp_path):
    _, harmless = made(judged, tmp_path / "harmless")
    _, text = made(hostile, tmp_path / "hostile")
    assert "<script>alert(1)" not in text
    parts = Parts(text)
    assert parts.count("script") == Parts(harmless).count("script")
    assert parts.count("b") == Parts(harmless).count("b")
    assert f"Dice, {HOSTILE}" in parts.texts
    assert HOSTILE in parts.texts
    start = text.index('<script type="application/json" id="study-1">')
    content = text[text.index("{", start) : text.index("</script>", start)]
    names = [line["name"] for line in json.loads(content)["content"]["lines"]]
    assert names == [PREDICTION, REFERENCE, HOSTILE]


def test_names_of_a_training_are_shown_and_never_run(trained, tmp_path):
    write_training(tmp_path, (HOSTILE, "two"))
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(f"data: {HOSTILE}", encoding="utf-8")
    _, text = made(tmp_path, tmp_path)
    assert "<script>alert(1)" not in text
    assert Parts(text).count("script") == Parts(made(trained, tmp_path)[1]).count("script")


# Slices


def box_study(shape=(40, 30, 20), spacing_mm=(2.0, 2.0, 5.0)):
    """A body of 0 HU in air, RAS+; what is marked is bright, on the right, in front and low."""
    hu = np.full(shape, -1000, np.int16)
    hu[4:-4, 4:-4] = 0
    mask = np.zeros(shape, bool)
    mask[24:32, 16:24, 4:8] = True
    hu[mask] = 200
    affine = np.diag([*spacing_mm, 1.0])
    affine[2, 3] = -100
    return Slices(Volume(hu, affine), {PREDICTION: Volume(mask, affine)})


def write_box(folder, slices):
    nifti.write(slices.scan, folder / "image.nii.gz")
    mask = slices.masks[PREDICTION]
    nifti.write(mask.with_array(mask.array.astype(np.uint8)), folder / "mask.nii.gz")
    return folder / "image.nii.gz", {PREDICTION: folder / "mask.nii.gz"}


def test_slices_know_their_height_however_they_were_stored(tmp_path):
    image, masks = write_box(tmp_path, box_study())
    straight = Slices.read(image, masks)
    scan, mask = (nifti.read(path).reoriented("LPI") for path in (image, masks[PREDICTION]))
    nifti.write(scan, image)
    nifti.write(mask, masks[PREDICTION])
    turned = Slices.read(image, masks)
    np.testing.assert_allclose(straight.scan.heights_mm(), -100 + 5 * np.arange(20))
    np.testing.assert_allclose(turned.scan.heights_mm(), straight.scan.heights_mm())
    np.testing.assert_array_equal(turned.scan.array, straight.scan.array)
    np.testing.assert_array_equal(turned.interest, [*[0] * 4, *[64] * 4, *[0] * 12])


def test_thin_slices_are_averaged(tmp_path):
    slices = Slices.read(*write_box(tmp_path, box_study(spacing_mm=(2.0, 2.0, 1.0))))
    assert slices.scan.shape[2] == 10
    assert slices.scan.spacing_mm[2] == pytest.approx(2)
    np.testing.assert_array_equal(slices.interest, [0, 0, 64, 64, *[0] * 6])
    assert [slices.named(z) for z in (0, 9)] == ["slices 1 to 2", "slices 19 to 20"]
    assert viewer.study(slices, width_px=20)["names"][9] == "slices 19 to 20 of 20 from the feet"
    scan, masks = slices.scan, slices.masks
    assert Slices(scan, masks, n_averaged=2, n_of_study=19).named(9) == "slice 19"


def test_interest_is_where_model_and_reference_differ():
    slices = box_study()
    same = slices.masks[PREDICTION]
    assert not Slices(slices.scan, {PREDICTION: same, REFERENCE: same}).interest.any()
    other = same.with_array(same.array & (np.arange(20) < 6))
    interest = Slices(slices.scan, {PREDICTION: same, REFERENCE: other}).interest
    np.testing.assert_array_equal(np.flatnonzero(interest), [6, 7])


def area(line):
    x, y = line.T
    return abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2


def test_outlines_run_half_way_to_the_voxels_outside():
    mask = np.zeros((6, 5), bool)
    mask[2:4, 0:3] = True  # as far as the edge of the scan
    (line,) = outlines(mask, (2.0, 3.0))
    np.testing.assert_array_equal(line[0], line[-1])
    assert (line[:, 0].min(), line[:, 0].max()) == (3, 7)
    assert (line[:, 1].min(), line[:, 1].max()) == (-1.5, 7.5)
    corners = 4 * (2 / 2 * 3 / 2) / 2  # cut off
    assert area(line) == pytest.approx(2 * 2 * 3 * 3 - corners)
    assert len(line) <= 9


def test_three_slices_are_chosen_of_what_is_marked():
    marked = np.zeros(30, bool)
    marked[6:15] = True
    interest = np.zeros(30)
    interest[[8, 9, 14]] = 1, 5, 2
    assert overlay.chosen(interest, marked) == [14, 9, 8]
    assert overlay.chosen(0 * interest, 0 * interest) == [25, 15, 5]
    assert overlay.chosen(interest[:1], marked[:1]) == [0]


def test_pictures_have_the_patient_s_right_on_the_left_and_the_front_at_the_top():
    first = overlay.pictures(box_study())[0]
    content = base64.b64decode(first.source.removeprefix("data:image/jpeg;base64,"))
    rgb = np.asarray(Image.open(BytesIO(content))).astype(int)
    assert rgb.shape == (360, 480, 3)
    red = np.argwhere(rgb[..., 0] - rgb[..., 2] > 100)  # the model's orange
    top, left = red.min(axis=0) / (360, 480)
    bottom, right = red.max(axis=0) / (360, 480)
    np.testing.assert_allclose([left, right], [8 / 40, 16 / 40], atol=0.02)
    np.testing.assert_allclose([top, bottom], [6 / 30, 14 / 30], atol=0.02)
    bright = np.argwhere(rgb.min(axis=2) > 200) / (360, 480)
    np.testing.assert_allclose(bright.mean(axis=0), [10 / 30, 12 / 40], atol=0.02)
    assert (first.name, first.height_mm) == ("slice 8", -65)


def voxels(study):
    packed = zlib.decompress(base64.b64decode(study["voxels"]))
    low, high = np.frombuffer(packed, np.uint8).reshape(2, -1).astype(int)
    hu = study["lowest_hu"] + study["step_hu"] * (low + 256 * high)
    return hu.reshape(study["slices"], study["rows"], study["columns"])


def test_a_viewer_gets_the_hu_of_the_scan_to_the_step():
    slices = box_study()
    hu = np.random.default_rng(0).integers(-2000, 3000, slices.scan.shape).astype(np.int16)
    study = viewer.study(Slices(slices.scan.with_array(hu), slices.masks), width_px=64)
    assert study["pixel_mm"] == (2, 2)  # never finer than the scan
    kept = np.clip(hu, *viewer.KEPT_HU).T
    assert np.abs(voxels(study) - kept).max() <= viewer.STEP_HU / 2
    low, high = viewer.WINDOWS_HU["Soft tissue"]
    assert (high - low) / viewer.STEP_HU >= 200
    assert study["start"] in (4, 5, 6, 7)


def test_a_viewer_s_slices_are_shrunk_and_lie_where_they_lay():
    study = viewer.study(box_study(), width_px=20)
    assert (study["columns"], study["rows"]) == (20, 15)
    assert study["offset_mm"] == (1, 1)
    hu = voxels(study)
    assert hu[0, 2, 2] == 0 and hu[0, 1, 1] == -1000
    (line,) = study["lines"]
    x, y = line["points"][5]
    assert (min(x[:-1]), max(x[:-1])) == (47, 63)
    assert (min(y[:-1]), max(y[:-1])) == (31, 47)
    assert x[-1] is None
    assert line["points"][0] == [[], []]


# Plots

CASES = [
    {"name": "a", "reference_ml": 100.0, "predicted_ml": 120.0, "dice": 0.5, "band": "50–200"},
    {"name": "b", "reference_ml": 300.0, "predicted_ml": 240.0, "dice": 0.7, "band": "200–500"},
    {"name": HOSTILE, "reference_ml": 310.0, "predicted_ml": 310.0, "dice": 0.9, "band": "200–500"},
]
NONE = {"value": None, "low": None, "high": None, "n": 1}


def test_bland_altman_shows_differences_against_means():
    bias = {"value": -13.0, "low": -50.0, "high": 24.0, "n": 3}
    figure = plots.bland_altman(CASES, {"bias_ml": bias, "lower_ml": NONE, "upper_ml": NONE})
    points, interval = figure.data
    assert list(points.x) == [110, 270, 310]
    assert list(points.y) == [20, -60, 0]
    assert interval.error_y.array == (37,) and interval.error_y.arrayminus == (37,)
    assert [note.text for note in figure.layout.annotations] == ["bias<br>-13.0 mL"]
    still = stills.bland_altman(CASES, {"bias_ml": bias, "lower_ml": NONE, "upper_ml": NONE})
    (drawn, *_) = still.axes[0].collections
    np.testing.assert_array_equal(drawn.get_offsets(), [[110, 20], [270, -60], [310, 0]])


def test_bands_show_their_n():
    one = {"value": 0.5, "low": None, "high": None, "n": 1}
    two = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 1}
    bands = {"50–200": {"n_cases": 1, "dice": one}, "200–500": {"n_cases": 2, "dice": two}}
    axis = plots.dice_by_size(CASES, bands).layout.xaxis
    assert axis.ticktext == ("50–200<br>n = 1", "200–500<br>n = 1, 2 cases")
    still = stills.dice_by_size(CASES, bands)
    ticks = [label.get_text() for label in still.axes[0].get_xticklabels()]
    assert ticks == ["50–200\nn = 1", "200–500\nn = 1, 2 cases"]


def test_the_curve_marks_the_best_epoch_and_offers_every_case():
    rows = [{"epoch": n, "train_dice": 0.1, "val_dice": 0.2 * n, "val_dice_a": 0.3} for n in (0, 1)]
    figure = plots.dice_curve(rows, best_epoch=1)
    assert [trace.name for trace in figure.data][2:] == ["a", "best epoch 1: 0.200"]
    assert figure.data[2].visible == "legendonly"
    assert len(figure.layout.shapes) == 1  # the best epoch's line


def test_the_curve_shades_epochs_of_halved_patches():
    rows = [{"epoch": n, "train_dice": 0.1, "halved": n == 0} for n in (0, 1)]
    figure = plots.dice_curve(rows, best_epoch=None)
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes] == [(-0.5, 0.5)]
    assert [note.text for note in figure.layout.annotations] == [HALVED]


def test_plots_take_no_name_for_html():
    texts = plots.bland_altman(CASES, dict.fromkeys(("bias_ml", "lower_ml", "upper_ml"), NONE))
    assert "<" not in texts.data[0].text[2]
    rows = {"model": CASES, HOSTILE: CASES}
    readers = plots.dice_by_reader(rows)
    assert "<" not in readers.data[1].name
    assert all("<" not in tick for tick in readers.layout.yaxis.ticktext)


# In a browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(browser, judged, predicted, trained, hostile, tmp_path_factory):
    """A function that opens the report of a folder; one that is open already stays as it is."""
    runs = {"judged": judged, "predicted": predicted, "trained": trained, "hostile": hostile}
    folder = tmp_path_factory.mktemp("pages")
    opened = []

    def show(kind):
        if opened[-1:] == [kind]:
            return
        if kind not in opened:
            made(runs[kind], folder / kind, viewers=3)
        browser.requests()  # what the browser itself asked for before is forgotten
        browser.open(folder / kind / "report.html")
        browser.until(DRAWN)
        opened.append(kind)

    return show


# The page counts as loaded before Plotly has put its pictures in, on a busy machine.
DRAWN = """[...document.querySelectorAll('.plotly-graph-div')].every(
    (plot) => plot.querySelector('.main-svg'))"""


def checked(browser):
    """Nothing in the console, and nothing asked for but the file itself."""
    assert browser.complaints() == []
    kinds = {address.split(":")[0] for address in browser.requests()}
    assert kinds <= {"file", "data", "blob"}
    assert browser.run("return performance.getEntriesByType('resource').length") == 0


def scrolled_to_the_slices(browser):
    browser.run("document.getElementById('slices').scrollIntoView()")
    browser.until("document.getElementById('place').textContent")


def column(browser, number):
    rows = "[...document.querySelectorAll('#cases tbody tr')]"
    return browser.run(f"return {rows}.map((row) => row.cells[{number}].textContent)")


def test_a_click_on_a_head_sorts_numbers_as_numbers(browser, pages):
    pages("judged")
    heads = "[...document.querySelectorAll('#cases thead button')]"
    titles = browser.run(f"return {heads}.map((head) => head.textContent)")
    place = titles.index("Error")
    head = f"#cases thead th:nth-child({place + 1})"
    browser.click(f"{head} button")
    rising = column(browser, place)
    assert rising == sorted(rising, key=float) != sorted(rising)
    assert browser.run(f"return document.querySelector('{head}').ariaSort") == "ascending"
    browser.press(f"{head} button", ENTER)
    assert column(browser, place) == rising[::-1]
    reader = titles.index("Dice, Reader 2")
    for _ in range(2):
        browser.click(f"#cases thead th:nth-child({reader + 1}) button")
        assert column(browser, reader)[-1] == "–"
    checked(browser)


def test_slices_scroll_change_their_window_and_lose_their_outlines(browser, pages):
    pages("judged")
    scrolled_to_the_slices(browser)
    slider, picture = "document.getElementById('slider')", "document.getElementById('picture')"
    start = browser.run(f"return +{slider}.value")
    before = browser.run(f"return Array.from({picture}.data[0].z[20])")
    browser.wheel("#picture", -120)  # up: towards the head
    told = f"slice {start + 2} of "
    browser.until(f"document.getElementById('place').textContent.startsWith('{told}')")
    assert browser.run(f"return Array.from({picture}.data[0].z[20])") != before
    browser.press("#slider", ARROW_LEFT * 2)
    browser.until(f"document.getElementById('place').textContent.startsWith('slice {start} of ')")
    assert browser.run(f"return [{picture}.data[0].zmin, {picture}.data[0].zmax]") == [-160, 240]
    browser.click("#windows label:nth-of-type(2) input")
    browser.until(f"{picture}.data[0].zmin === -1350 && {picture}.data[0].zmax === 150")
    lines = f"return {picture}.data.slice(1).map((line) => line.visible)"
    assert browser.run(lines) == [True, True]
    browser.click("#lines label:nth-of-type(1) input")
    browser.until(f"{picture}.data[1].visible === false")
    assert browser.run(lines) == [False, True]
    left, right = browser.run(f"return {picture}.layout.xaxis.range")
    assert left > right  # x grows to the patient's right, which is on the left
    checked(browser)


def test_another_case_opens_from_its_pictures(browser, pages):
    pages("judged")
    browser.click("#case-1 a.open")
    browser.until("document.getElementById('told').textContent.startsWith('Dice 0.6')")
    assert browser.run("return document.getElementById('study').value") == "study-1"
    checked(browser)


def test_hostile_names_show_as_text_in_tables_plots_and_viewer(browser, pages):
    pages("hostile")
    assert HOSTILE in column(browser, 0)
    scrolled_to_the_slices(browser)
    browser.click("#case-1 a.open")
    browser.until("document.querySelectorAll('#lines label').length === 3")
    label = "return document.querySelector('#lines label:last-child').textContent.trim()"
    assert browser.run(label) == HOSTILE
    texts = "[...document.querySelectorAll('#plot-readers text')]"
    plotted = browser.run(f"return {texts}.map((text) => text.textContent)")
    assert plotted.count(HOSTILE) == 2  # the case and the reader
    hover = """
        const plot = document.getElementById("plot-bland_altman");
        const point = plot.data[0].text.findIndex((name) => name.includes("alert"));
        Plotly.Fx.hover(plot, [{ curveNumber: 0, pointNumber: point }]);
        return [...plot.querySelectorAll(".hovertext text")].map((text) => text.textContent);"""
    assert HOSTILE in "".join(browser.run(hover))
    checked(browser)


@pytest.mark.parametrize("kind", ["predicted", "trained", "judged"])
def test_each_kind_draws_its_plots_and_offers_no_upload(browser, pages, kind):
    pages(kind)
    if kind != "trained":
        scrolled_to_the_slices(browser)
    plots = "document.querySelectorAll('.js-plotly-plot .main-svg:first-child').length"
    assert browser.run(f"return {plots}") == {"predicted": 1, "trained": 1, "judged": 4}[kind]
    buttons = browser.run(
        "return [...document.querySelectorAll('.modebar-btn')].map((b) => b.dataset.title)"
    )
    assert not [title for title in buttons if "Share" in title or "Cloud" in title]
    checked(browser)


def test_the_page_forbids_its_browser_every_request(browser, pages):
    pages("judged")
    browser.run("new Image().src = 'http://127.0.0.1:9/beacon.png'")
    browser.until("performance.now() > 0")
    (complaint,) = browser.complaints()
    assert "Content Security Policy" in complaint
    assert "http" not in {address.split(":")[0] for address in browser.requests()}


def test_wide_intervals_of_few_cases_do_not_shrink_the_plot():
    rows = [
        {"predicted_ml": 120.0, "reference_ml": 100.0},
        {"predicted_ml": 90.0, "reference_ml": 100.0},
    ]
    wide = {"low": -4000.0, "high": 4000.0, "n": 2}
    limits = {"bias_ml": 5.0, "upper_ml": 45.0, "lower_ml": -35.0}
    agreement = {key: {"value": value, **wide} for key, value in limits.items()}
    assert plots.difference_range(rows, agreement) == (-55.0, 65.0)
    unknown = {key: {"value": None} for key in limits}
    assert plots.difference_range(rows, unknown) == (-17.5, 27.5)
