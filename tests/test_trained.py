"""A run folder from anywhere: built as it was trained, or refused before anything runs."""

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from pleural.errors import InputError
from pleural.run_folder import CONFIG, RunFolder
from pleural.segmenter import Segmenter
from pleural.settings import digest
from pleural.trained import runs_in
from tests.conftest import write_run


def loaded(path):
    (run,) = runs_in(path)
    return run.load()


def edit(path, **changes):
    file = path / CONFIG
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump({**config, **changes}), encoding="utf-8")


def test_what_was_trained_is_what_predicts(tmp_path):
    trained = loaded(write_run(tmp_path, above_hu=100, threshold=0.4))
    assert trained.threshold == 0.4
    assert trained.patch_size == (32, 32, 16)
    assert trained.inferer.roi_size == [32, 32, 16]
    assert trained.preprocess.spacing_mm == (6, 6, None)
    assert trained.net.bias.item() == pytest.approx(-5)


def test_a_folder_of_runs_is_taken_in_the_order_of_names(tmp_path):
    for name in ("fold-2", "fold-0", "fold-1"):
        write_run(tmp_path / "sweep" / name)
    assert [run.path.name for run in runs_in(tmp_path)] == ["fold-0", "fold-1", "fold-2"]


def test_weights_are_told_apart_by_content(tmp_path):
    one, other, same = (
        write_run(tmp_path / name, above_hu=hu) for name, hu in (("a", 0), ("b", 1), ("c", 0))
    )
    hashes = [run.weights_sha256 for path in (one, other, same) for run in runs_in(path)]
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.hub.load",
        "torch.load",
        "monai.bundle.run",
        "pleural.train.train",
        "pleural.model.torch.hub.load",  # a way out through what a module imports
        "monai.networks.nets.unet.torch.load",
        "torch.nn.functional.relu",  # no class
        "torch.nn.modules.module.functools.partial",
        "",
        7,
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_nothing_outside_the_known_packages_is_called(tmp_path, target, deep):
    path = write_run(tmp_path)
    node = {"_target_": target, "command": f"touch {tmp_path / 'called'}"}
    if deep:
        node = {"_target_": "pleural.model.SliceWise", "net": {"list": [node]}}
    edit(path, model=node)
    with pytest.raises(InputError, match="which is not a class of") as refusal:
        loaded(path)
    assert str(path / CONFIG) in str(refusal.value)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"_target_": "monai.networks.nets.HoVerNet", "pretrained_url": "http://x"}, "pretrained"),
        ({"_target_": "monai.networks.nets.ResNetFeatures", "pretrained": True}, "pretrained"),
        ({"_target_": "torch.nn.Identity", "a": "http://x/${oc.env:HOME}"}, "looked up outside"),
        ({"_target_": "torch.nn.Identity", "a": ["${a.${hydra:job.name}}"]}, "looked up outside"),
    ],
)
def test_nothing_is_fetched_or_looked_up(tmp_path, node, words):
    path = write_run(tmp_path)
    edit(path, model=node)
    with pytest.raises(InputError, match=words):
        loaded(path)


def test_an_argument_that_reaches_nowhere_is_none_of_these(tmp_path):
    path = write_run(tmp_path)
    for name, value in (("pretrained", False), ("dropout_path_rate", 0.1), ("path", None)):
        edit(path, model={"_target_": "torch.nn.Identity", name: value})
        with pytest.raises(InputError, match="its weights belong to"):  # read, built, and no match
            loaded(path)


def test_weights_and_configuration_belong_together(tmp_path):
    path = write_run(tmp_path)
    record = RunFolder(path).load_record()
    asked = digest(OmegaConf.load(path / CONFIG))
    RunFolder(path).save_record({**record, "settings": asked})
    assert loaded(path).threshold == 0.5
    edit(path, debug=True, settings=None, data={"root": "elsewhere"})  # no settings
    assert loaded(path).threshold == 0.5
    edit(path, threshold=0.3)
    with pytest.raises(InputError, match="not the configuration that the weights"):
        loaded(path)


def test_a_run_that_did_not_finish_is_named(tmp_path, capsys):
    path = write_run(tmp_path)
    RunFolder(path).save_record({**RunFolder(path).load_record(), "finished": False})
    loaded(path)
    assert "did not finish" in capsys.readouterr().out


def test_other_parts_of_the_configuration_are_never_built(tmp_path):
    path = write_run(tmp_path, logger={"_target_": "os.abort"}, data={"_target_": "os.abort"})
    assert loaded(path).threshold == 0.5


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: (path / "best.pt").unlink(), r"no weights \(best.pt\)"),
        (lambda path: (path / "run.json").unlink(), r"no record \(run.json\)"),
        (lambda path: (path / "run.json").write_text("{"), "cannot be read as JSON"),
        (lambda path: (path / "best.pt").write_bytes(b"torn"), "best.pt: cannot be read"),
        (lambda path: (path / CONFIG).write_text("a: [1"), "is not the configuration"),
        (lambda path: (path / CONFIG).write_text("a: 1"), "is not the configuration"),
        (lambda path: edit(path, patch_size=3), "does not build"),
        (lambda path: edit(path, model={"_target_": "torch.nn.Nothing"}), "is not there"),
        (lambda path: edit(path, model={"_target_": "torch.nn.Identity"}), "does not build"),
        (lambda path: edit(path, model={"_target_": "torch.nn.Linear"}), "does not build"),
    ],
)
def test_a_run_that_is_none_gets_a_sentence(tmp_path, spoil, words):
    path = write_run(tmp_path / "run")
    spoil(path)
    with pytest.raises(InputError, match=words) as refusal:
        loaded(path)
    assert str(path) in str(refusal.value)


def test_a_folder_without_runs_gets_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no run folder.*outputs/train"):
        runs_in(tmp_path)


def test_three_lines_of_python_are_enough(tmp_path, phantoms):
    write_run(tmp_path)
    mask = Segmenter.load(tmp_path).predict(phantoms[0].image)
    assert mask.array.dtype == np.uint8
    assert mask.nonzero_ml > 0
