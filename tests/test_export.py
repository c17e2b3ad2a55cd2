"""A network in other people's programs: the same masks, and words that are true."""

import hashlib
import json
import re
import sys
from dataclasses import replace

import monai
import numpy as np
import onnx
import pytest
import torch
from hydra.utils import instantiate
from monai.bundle import ConfigWorkflow, load, verify_net_in_out
from monai.inferers import SlidingWindowInferer

from pleural import io
from pleural.data.plethora import Plethora
from pleural.data.split import Split
from pleural.errors import InputError
from pleural.evaluate import evaluate
from pleural.export import export
from pleural.export.bundle import SOURCES, for_monai
from pleural.export.card import card, evaluation_of
from pleural.export.description import description
from pleural.export.network import _parity, _patches, write_onnx
from pleural.inference import Windows
from pleural.io import nifti
from pleural.judgement import described, entries
from pleural.model import UNet
from pleural.prediction_folder import PredictionFolder
from pleural.preprocess import ChestCT
from pleural.run_folder import RunFolder
from pleural.segmenter import Segmenter
from pleural.trained import Trained, runs_in
from tests.conftest import ROOT, Source, write_run
from tests.test_conf import composed
from tests.test_layers import imported

UNET = {"_target_": "pleural.model.UNet", "dimensions": 3, "channels": [4, 8]}
UNET |= {"stem_stride": [2, 2, 1], "contrasts_hu": [[-1000, 1000], [-200, 200]]}
UNET |= {"window_hu": "${preprocess.window_hu}", "prior": 0.5}
LICENCE = "synthetic; no terms"
EXAMPLE = re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text("utf-8"), re.S)[0]
# What the schema named in metadata.json requires (read at project-monai.github.io/schema).
REQUIRED = {
    *("schema", "version", "monai_version", "pytorch_version", "numpy_version", "authors"),
    *("required_packages_version", "task", "description", "copyright", "network_data_format"),
}
REQUIRED_OF_TENSORS = {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


INFERENCE = {
    "patches": {
        "_target_": "monai.inferers.SlidingWindowInferer",
        **{"roi_size": "${patch_size}", "overlap": 0.25, "mode": "gaussian"},
    },
    "slabs": {
        "_target_": "pleural.inference.Windows",
        **{"patch_size": "${patch_size}", "overlap": 0.5, "slab": 16, "slab_overlap": 0.25},
    },
}


@pytest.fixture(scope="module", params=INFERENCE)
def windows(request):
    return request.param


@pytest.fixture(scope="module")
def run_dir(windows, phantoms, tmp_path_factory):
    """An untrained UNet, whose masks are full of holes and so easily told apart."""
    source = {"_target_": "pleural.data.phantom.Phantom"}
    path = tmp_path_factory.mktemp("trained") / "run"
    inference = INFERENCE[windows]
    changes = {"model": UNET, "data": source, "inference": inference, "sure_inside": [0, 0.9]}
    write_run(path, phantoms[:2], phantoms[2:], **changes)
    torch.manual_seed(0)
    net = instantiate(UNET | {"window_hu": [-1000, 1000]})
    RunFolder(path).save_best(net.state_dict(), epoch=0, val_dice=None)
    return path


@pytest.fixture(scope="module")
def exported(run_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    return export(run_dir, None, LICENCE, folder), folder


@pytest.fixture(scope="module")
def studies(phantoms):
    """One as it is, and the back half of ten slices of it in air: smaller than a patch."""
    scan, _ = phantoms[0].load()
    slices = scan.reoriented().cropped((slice(None), slice(None), slice(2, 12)))
    half = slices.cropped((slice(None), slice(slices.shape[1] // 2), slice(None)))
    part = half.onto(slices, fill=-1000).array
    return {"whole": scan, "part": slices.with_array(np.rint(part).astype(np.int16))}


def expected(run_dir, scan):
    mask = Segmenter.load(run_dir, device="cpu", precision="32-true").segment(scan).mask
    assert 0.02 < mask.array.mean() < 0.98
    return mask


def test_the_onnx_file_stands_alone(exported, windows):
    apart, folder = exported
    assert 0 < apart < 1e-4
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    (image,), (logits,) = model.graph.input, model.graph.output
    assert (image.name, logits.name) == ("image", "logits")
    for tensor in (image, logits):
        batch, *sizes = tensor.type.tensor_type.shape.dim
        assert batch.dim_param == "batch"
        assert sizes.pop(0).dim_value == 1
        if windows == "patches":
            assert [size.dim_value for size in sizes] == [32, 32, 16]
        else:
            assert [size.dim_param for size in sizes] == ["4*n1", "4*n2", "2*n3"]
    assert not any(len(weights.external_data) for weights in model.graph.initializer)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(about["preprocessing"]) == read(folder / "model.json")["preprocessing"]


def test_what_is_copied_needs_nothing_else_of_ours():
    needed = {
        module.split(".")[1]
        for name in SOURCES
        for module in imported(ROOT / "pleural" / f"{name}.py")
        if module.startswith("pleural.")
    }
    assert needed <= {*SOURCES}


def test_no_path_of_this_machine_and_no_name_of_a_case_is_passed_on(exported, run_dir, phantoms):
    names = [case.name.encode() for case in phantoms]
    private = [b"site-packages", str(ROOT).encode(), str(run_dir).encode(), *names]
    files = [file for file in exported[1].rglob("*") if file.is_file()]
    assert len(files) == 18
    for file in files:
        assert not [text for text in private if text in file.read_bytes()], file


def test_model_json_says_what_was_trained(exported, run_dir, windows, phantoms):
    about, folder = read(exported[1] / "model.json"), exported[1]
    steps, window = about["preprocessing"], about["inference"]
    assert (steps["window_hu"], steps["spacing_mm"]) == ([-1000, 1000], [6, 6, None])
    assert (steps["crop_to_body"], steps["body"]["margin_mm"]) == (True, 10)
    assert (window["patch_size"], window["overlap"]) == ([32, 32, 16], 0.25)
    assert window.get("slab") == {"patches": None, "slabs": 16}[windows]
    rule = about["postprocessing"]
    assert (window["blending"], rule["threshold"]) == ("gaussian", 0.5)
    bundle = read(folder / "bundle" / "configs" / "inference.json")
    assert rule["sure_inside"] == bundle["sure_inside"] == [0, 0.9]
    for key, file in (("onnx", folder / "model.onnx"), ("weights", run_dir / "best.pt")):
        assert about[f"{key}_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert about["training_image_sha256"] == [case.image_hash for case in phantoms[:2]]
    assert about["training_data_licence"] == LICENCE
    assert about["largest_probability_differences"]["onnxruntime"] == exported[0]


@pytest.mark.parametrize("study", ["whole", "part"])
def test_the_example_of_the_docs_gives_our_mask(study, exported, run_dir, studies, monkeypatch):
    folder = exported[1]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    nifti.write(studies[study], folder / "study.nii.gz")
    try:
        exec(compile(EXAMPLE, "docs/export.md", "exec"), {})
        mask = io.read(folder / "effusion.nii.gz")
    finally:
        for name in ("study.nii.gz", "effusion.nii.gz"):
            (folder / name).unlink(missing_ok=True)
    wrong = np.count_nonzero(mask.array != expected(run_dir, studies[study]).array)
    assert wrong <= 1e-4 * mask.array.size
    np.testing.assert_allclose(mask.affine, studies[study].affine, atol=1e-4)


@pytest.fixture
def metadata_kept():
    """As in a process of MONAI's own; our training has tensors without."""
    before = monai.data.get_track_meta()
    monai.data.set_track_meta(True)
    yield
    monai.data.set_track_meta(before)


def test_monai_runs_the_bundle_and_gives_our_masks(
    exported, run_dir, studies, tmp_path, monkeypatch, metadata_kept
):
    bundle = exported[1] / "bundle"
    monkeypatch.chdir(bundle)
    monkeypatch.setattr(sys, "path", [str(bundle), *sys.path])
    for name, scan in studies.items():
        nifti.write(scan, tmp_path / "in" / f"{name}.nii.gz")
    places = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / "out")}
    workflow = ConfigWorkflow("configs/inference.json", workflow_type="inference", **places)
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    for name, scan in studies.items():
        mask = io.read(tmp_path / "out" / f"{name}_effusion.nii.gz")
        np.testing.assert_array_equal(mask.array, expected(run_dir, scan).array)
        np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)


def test_monai_loads_the_network_with_its_weights(exported, run_dir, monkeypatch):
    bundle = exported[1] / "bundle"
    monkeypatch.setattr(sys, "path", [str(bundle), *sys.path])
    net = load("bundle", bundle_dir=bundle.parent, workflow_type="inference", device="cpu")
    assert type(net).__module__ == "pleural_bundle.model"
    patch = torch.rand(1, 1, 32, 32, 16)
    (run,) = runs_in(run_dir)
    assert torch.equal(net.eval()(patch), run.load().net.eval()(patch))
    configs = {f"{name}_file": str(bundle / "configs" / file) for name, file in CONFIGS.items()}
    verify_net_in_out("network_def", device="cpu", **configs)


CONFIGS = {"meta": "metadata.json", "config": "inference.json"}


def test_the_bundle_is_whole_and_needs_no_pleural(exported):
    bundle = exported[1] / "bundle"
    metadata = read(bundle / "configs" / "metadata.json")
    assert set(metadata) >= REQUIRED
    data = metadata["network_data_format"]
    for tensor in (data["inputs"]["image"], data["outputs"]["pred"]):
        assert set(tensor) >= REQUIRED_OF_TENSORS
    for source in bundle.rglob("*.py"):
        assert not re.search(r"(from|import) pleural\b", source.read_text(encoding="utf-8"))
    assert '"pleural.' not in (bundle / "configs" / "inference.json").read_text(encoding="utf-8")
    assert "Apache License" in (bundle / "LICENSE").read_text(encoding="utf-8")
    assert LICENCE in (bundle / "docs" / "data_license.txt").read_text(encoding="utf-8")


# Swin UNETR takes minutes to convert.
@pytest.mark.parametrize("model", ["unet2d", "unet_small", "dynunet"])
def test_other_networks_survive_as_well(model, tmp_path):
    torch.manual_seed(0)
    net = instantiate(composed(tmp_path, f"model={model}").model, _convert_="all").eval()
    size = (32, 32, 16)
    preprocess = ChestCT((-1000, 1000), (6, 6, None), crop_to_body=True, margin_mm=10)
    inferer = SlidingWindowInferer(size, overlap=0.5, mode="gaussian")
    parity = write_onnx(Trained(net, preprocess, inferer, size, 0.5), tmp_path / "model.onnx", {})
    assert 0 < parity.onnxruntime < parity.torch_bf16 / 10


def test_free_sizes_are_more_than_one_multiple(tmp_path):
    """The default's six levels halve 32 slices, the phantoms' patch, to one."""
    torch.manual_seed(0)
    net = UNet(3, [4] * 6, (1, 1, 1), [(-1000, 1000)], (-1000, 1000), prior=0.5).eval()
    size = (32, 32, 32)
    preprocess = ChestCT((-1000, 1000), (6, 6, None), crop_to_body=True, margin_mm=10)
    inferer = Windows(size, overlap=0.5, slab=32, slab_overlap=0.25)
    path = tmp_path / "model.onnx"
    write_onnx(Trained(net, preprocess, inferer, size, 0.5), path, {})
    (image,) = onnx.load(path).graph.input
    sizes = [size.dim_param for size in image.type.tensor_type.shape.dim[2:]]
    assert sizes == ["32*n1", "32*n2", "32*n3"]


def test_a_network_that_gives_no_numbers_leaves_no_file(tmp_path):
    path = write_run(tmp_path / "run")
    weights = {"weight": torch.full((1, 1, 1, 1, 1), torch.nan), "bias": torch.zeros(1)}
    RunFolder(path).save_best(weights, epoch=0, val_dice=None)
    with pytest.raises(InputError, match="other probabilities in ONNX Runtime than in torch"):
        export(path, None, None, tmp_path / "export")
    assert list((tmp_path / "export").iterdir()) == []


def test_what_cannot_be_described_is_refused(tmp_path):
    simple = {"_target_": "monai.inferers.SimpleInferer"}
    path = write_run(tmp_path / "run", inference=simple)
    with pytest.raises(InputError, match="this run has SimpleInferer instead"):
        export(path, None, None, tmp_path / "export")


def test_several_runs_are_refused(tmp_path):
    for name in "ab":
        write_run(tmp_path / "sweep" / name)
    with pytest.raises(InputError, match=r"holds 2 runs, and an export is of one: name it, such"):
        export(tmp_path / "sweep", None, None, tmp_path / "export")


def test_a_missing_package_is_told_before_anything_is_done(run_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"onnxruntime.*pip install .*\[export\]"):
        export(run_dir, None, None, tmp_path / "export")
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("text", ["$import os", "@network", "%other.json"])
def test_what_monai_would_run_is_no_setting(text):
    with pytest.raises(InputError, match="which a bundle would run"):
        for_monai({"net": [{"act": text}]})


@pytest.fixture
def facts(exported, run_dir):
    (run,) = runs_in(run_dir)
    return run, read(exported[1] / "model.json")


def test_the_card_tells_of_data_licence_and_limits(exported):
    text = (exported[1] / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Not a medical device" in text
    assert "Trained on synthetic chests" in text
    assert f"Licence: **{LICENCE}**" in text
    assert "training: n = 2 scans (of 2 patients)" in text
    assert "saw no scan known to be free of effusion: expect" in text
    assert "None: no scan with effusion validated this network." in text


def test_a_licence_that_is_not_stated_is_said_to_be_so(facts):
    run, about = facts
    text = card(run, about | {"training_data_licence": "not stated"}, None)
    assert "Licence: **not stated**" in text
    assert "Find out what the data's terms say" in text


def test_validation_figures_have_their_n_and_a_warning(facts, phantoms):
    run, about = facts
    score = {"name": phantoms[2].name, "dice": 0.625, "reference_ml": 900, "predicted_ml": 700}
    empty = {**score, "dice": 0.0, "reference_ml": 0}
    run.record.update(cases=[score, empty], epochs=9, patches=90, precision="32-true")
    run.record.update(seconds={"train": 120}, seed=3, best_epoch=7, finished=True)
    text = card(run, about, None)
    assert "Mean Dice 0.625 [95 % interval], n = 1 patient." in text
    assert "n = 1 patient: too few to tell small differences from chance" in text
    assert "9 epochs (90 patches) in 2.0 minutes, 32-true, seed 3; epoch 7 (counted" in text
    assert "choose the best epoch" in text
    run.record["kept"] = "last"
    text = card(run, about, None)
    assert "choose the best epoch" not in text
    assert "these scans chose nothing" in text


def test_what_it_started_from_is_told_scan_by_scan(facts, run_dir, phantoms):
    run, about = facts
    (before,) = described(Split([phantoms[2]], [], []))["training"]
    start = {"run": "a/run", "weights_sha256": "abc", "training": [before]}
    run = replace(run, record=run.record | {"start": start})
    text = card(run, about, None)
    assert "- started from the weights with SHA-256 `abc`, learnt from 1 scan" in text
    assert "a/run" not in text
    assert "synthetic chests," not in text
    ours = replace(run, record=run.record | {"start": start | {"run": "phantoms"}})
    assert "learnt from 1 scan, synthetic chests, that" in card(ours, about, None)
    digest = before["image_sha256"]
    assert f"| `{digest[:12]}` | training, of what it started from |" in text
    of_run = description(run, run.load(), LICENCE)
    assert digest in of_run["training_image_sha256"]
    assert digest not in about["training_image_sha256"]


def test_the_card_names_what_trained_along(facts, phantoms):
    run, about = facts
    run = replace(run, record=run.record | {"companions": entries(phantoms[2:])})
    text = card(run, about, None)
    digest = phantoms[2].image_hash
    assert f"| `{digest[:12]}` | training along |" in text
    assert "1 synthetic chest trained along, together drawn as often as one case" in text
    assert digest in description(run, run.load(), LICENCE)["training_image_sha256"]


def judged(cases, folder, weights):
    """An evaluation of predictions that are the references themselves, by these weights."""
    predictions = PredictionFolder(folder / "predictions")
    runs = [{"path": f"run {sha256}", "weights_sha256": sha256} for sha256 in weights]
    for case in cases:
        nifti.write(case.load()[1], predictions.mask(case.name))
        predictions.save_study({"name": case.name, "trained_on_by": [], "runs": runs})
    predictions.save_record({"held_out": True, "mirror": ""})
    evaluate(Source(cases), predictions.path, None, 3.0, 10.0, folder / "evaluation")
    return predictions, folder / "evaluation"


def test_figures_of_an_evaluation_take_the_place_of_the_validation_s(facts, phantoms, tmp_path):
    run, about = facts
    _, evaluation = judged(phantoms, tmp_path, [run.weights_sha256, "another's"])
    text = card(run, about, evaluation_of(run, evaluation))
    assert "3 scans: 3 with effusion, 0 without; 0 missed." in text
    assert "Predicted by 2 networks, each scan by those that did not train on it" in text
    assert "| Dice | 1.000 [1.000, 1.000] | 3 |" in text
    assert "n = 3 patients: too few" in text
    assert "Some validated the network." in text
    assert "validation only" not in text


@pytest.mark.parametrize("weights", [[], ["another's"]])
def test_figures_of_another_network_are_refused(facts, phantoms, tmp_path, weights):
    predictions, evaluation = judged(phantoms, tmp_path, weights)
    with pytest.raises(InputError, match="its figures do not belong on this card"):
        evaluation_of(facts[0], evaluation)
    # Whoever predicts into that folder later, the figures stay whose they are.
    own = [{"path": "own", "weights_sha256": facts[0].weights_sha256}]
    for case in phantoms:
        predictions.save_study({"name": case.name, "trained_on_by": [], "runs": own})
    with pytest.raises(InputError, match="its figures do not belong on this card"):
        evaluation_of(facts[0], evaluation)


def test_what_is_no_evaluation_is_refused(facts, tmp_path):
    with pytest.raises(InputError, match=r"no summary\.json of task=evaluate there"):
        evaluation_of(facts[0], tmp_path)


def test_on_a_real_scan_rounding_stays_far_below_that_of_bf16(exported, run_dir, plethora_root):
    (run,) = runs_in(run_dir)
    trained = run.load()
    trained.net.eval()
    case = next(case for case in Plethora(plethora_root).cases() if case.name == "LUNG1-016")
    patches = _patches(trained, io.read(case.image), None)
    parity = _parity(trained.net, exported[1] / "model.onnx", patches)
    assert parity.onnxruntime < 1e-6 < 1e-5 < parity.torch_bf16
