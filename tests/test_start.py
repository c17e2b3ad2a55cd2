"""What a training starts from, and what that must not have seen."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from pleural.data.phantom import Phantom
from pleural.data.split import Split, split
from pleural.dice import dice
from pleural.errors import Findings, InputError
from pleural.held_out import Exposure
from pleural.judgement import entries
from pleural.model import UNet
from pleural.run_folder import CONFIG, RunFolder
from pleural.segmenter import Segmenter
from pleural.start import SHIPPED, start_from
from pleural.train import train
from pleural.trained import Run
from tests.conftest import write_run
from tests.test_conf import composed
from tests.test_train import settings


def weights_of(run_dir):
    return RunFolder(run_dir).load_best()["weights"]


@pytest.fixture(scope="module")
def first(phantoms, tmp_path_factory):
    """Learnt from two phantoms; the third validated it."""
    run_dir = tmp_path_factory.mktemp("first")
    train(**settings(phantoms, run_dir))
    (run_dir / CONFIG).parent.mkdir()
    (run_dir / CONFIG).touch()  # Hydra's part
    return run_dir


def test_a_training_starts_from_the_weights_of_another(first, phantoms, tmp_path):
    still = partial(torch.optim.AdamW, lr=0, weight_decay=0)
    train(**settings(phantoms, tmp_path, start=first, optimizer=still))
    started, given = weights_of(tmp_path), weights_of(first)
    learnt = [name for name, _ in settings(phantoms, tmp_path)["model"].named_parameters()]
    assert learnt
    assert all(torch.equal(started[name], given[name]) for name in learnt)


def test_statistics_of_norms_come_along(first, phantoms):
    net = UNet(3, (4, 8), (1, 1, 1), [(-1000, 1000)], (-1000, 1000), 0.05)
    start_from(first, net, Split([*phantoms], [], []))
    for name, value in weights_of(first).items():
        assert torch.equal(net.state_dict()[name], value)


def test_the_record_says_what_it_started_from(first, phantoms, tmp_path, capsys):
    train(**settings(phantoms, tmp_path, start=first))
    assert f"starts from {first}, which learnt from 2 scans" in capsys.readouterr().out
    record, of_first = (
        json.loads((path / "run.json").read_text(encoding="utf-8")) for path in (tmp_path, first)
    )
    assert record["start"]["run"] == str(first)
    assert record["start"]["training"] == of_first["split"]["training"]


def test_it_goes_on_where_what_it_started_from_is_gone(first, phantoms, tmp_path):
    given = settings(phantoms, tmp_path / "run", start=first)
    train(**given)
    record = RunFolder(tmp_path / "run").load_record()
    RunFolder(tmp_path / "run").save_record({**record, "finished": False})
    train(**{**settings(phantoms, tmp_path / "run"), "start": tmp_path / "gone"})
    assert RunFolder(tmp_path / "run").load_record()["start"] == record["start"]


def test_where_only_best_weights_were_kept_it_starts_there_again(first, phantoms, tmp_path):
    """A training that was cut off between the two files of its first epoch."""
    still = partial(torch.optim.AdamW, lr=0, weight_decay=0)
    train(**settings(phantoms, tmp_path, start=first, optimizer=still))
    run = RunFolder(tmp_path)
    run.last.unlink()
    run.save_record({**run.load_record(), "finished": False})
    train(**settings(phantoms, tmp_path, start=first, optimizer=still))
    head = "head.weight"
    assert torch.equal(weights_of(tmp_path)[head], weights_of(first)[head])


def test_a_new_scan_of_a_patient_it_learnt_from_may_not_validate(phantoms, tmp_path):
    """That names mean the same patients is told by a scan that trains in both."""
    a, b, c = phantoms
    run = write_run(tmp_path, training=[a, b])
    later = replace(c, name="later", patient=a.patient)
    with pytest.raises(InputError, match="learnt from later, which would validate here"):
        start_from(run, nn.Conv3d(1, 1, 1), Split([b], [later], []))


def test_what_would_validate_must_not_have_been_learnt_from(first, phantoms, tmp_path):
    other = partial(split, fold=1, n_folds=3, seed=0)
    with pytest.raises(InputError, match=r"learnt from phantom_00., which would validate here"):
        train(**settings(phantoms, tmp_path / "run", start=first, split=other))
    assert not (tmp_path / "run").exists()


def test_what_it_started_from_saw_counts_as_seen(phantoms, tmp_path):
    a, b, c = phantoms
    grandparent = write_run(tmp_path / "grandparent")
    begun = RunFolder(grandparent)
    begun.save_record({**begun.load_record(), "companions": entries([a])})
    net = nn.Conv3d(1, 1, 1)
    start = start_from(grandparent, net, Split([b], [c], []))
    parent = write_run(tmp_path / "parent", training=[b], validation=[c])
    folder = RunFolder(parent)
    folder.save_record({**folder.load_record(), "start": start})
    seen = Exposure.of(Run(parent, folder.load_record(), ""), phantoms)
    assert [seen.trained_on(case) for case in phantoms] == [True, True, False]
    with pytest.raises(InputError, match=rf"learnt from {a.name}, which would validate here"):
        start_from(parent, net, Split([b], [a], []))


def test_scans_that_are_gone_are_told_all_at_once(first, phantoms, tmp_path):
    gone = [replace(case, image=tmp_path / f"{case.name}.nii.gz") for case in phantoms]
    with pytest.raises(Findings) as told:
        train(**settings(gone, tmp_path / "run", start=first))
    findings = "\n".join(told.value.findings)
    assert all(f"{case.image}: there is no such file" in findings for case in gone)


def test_weights_of_another_network_are_refused(first, phantoms):
    wider = UNet(3, (6, 8), (1, 1, 1), [(-1000, 1000)], (-1000, 1000), 0.05)
    named = r"encoder.0.0.0.weight: \[4, 1, 3, 3, 3\] there, \[6, 1, 3, 3, 3\] here"
    with pytest.raises(InputError, match=f"those of another network .{named}"):
        start_from(first, wider, Split([*phantoms], [], []))
    deeper = UNet(3, (4, 8, 16), (1, 1, 1), [(-1000, 1000)], (-1000, 1000), 0.05)
    with pytest.raises(InputError, match=r"none there, \[.*\] here; \d+ differ"):
        start_from(first, deeper, Split([*phantoms], [], []))


def test_the_default_network_starts_from_what_phantoms_taught(phantoms, tmp_path, capsys):
    config = composed(tmp_path, "data=folder")
    net = instantiate(config.model, _convert_="all")
    start = start_from(config.start, net, Split([*phantoms], [], []))
    learnt = len(start["training"])
    assert learnt >= 10
    assert f"starts from phantoms, which learnt from {learnt} scans" in capsys.readouterr().out
    given = weights_of(SHIPPED["phantoms"])
    for name, value in net.state_dict().items():
        assert value.dtype == (torch.float32 if value.is_floating_point() else torch.int64)
        assert torch.equal(value, given[name].to(value.dtype))


def test_weights_of_phantoms_find_the_effusion_of_another(tmp_path):
    """They were learnt on fine voxels; so is this one."""
    (case,) = Phantom(tmp_path, n_cases=1, seed=11, spacing_mm=(1.5, 1.5, 3)).cases()
    scan, reference = case.load()
    found = Segmenter.load(SHIPPED["phantoms"], device="cpu").segment(scan).mask
    assert dice(found.array, reference.array) > 0.8


@pytest.mark.parametrize("source", ["folder", "table", "plethora"])
def test_all_real_data_starts_from_them(source, tmp_path):
    assert composed(tmp_path, f"data={source}").start == "phantoms"


def test_phantoms_start_from_random_weights(tmp_path):
    assert composed(tmp_path).start is None


def test_other_networks_start_from_random_weights_and_it_is_said(phantoms, capsys):
    net = UNet(3, (4, 8), (1, 1, 1), [(-1000, 1000)], (-1000, 1000), 0.05)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert start_from("phantoms", net, Split([*phantoms], [], [])) is None
    assert "another network: this one starts from random ones" in capsys.readouterr().out
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_of_several_runs_one_must_be_named(phantoms, tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / name, training=phantoms)
    with pytest.raises(InputError, match="holds 2 runs; name one of them"):
        start_from(tmp_path, nn.Conv3d(1, 1, 1), Split([*phantoms], [], []))


def test_where_there_is_no_run_it_is_said(phantoms, tmp_path):
    with pytest.raises(InputError, match="no run folder"):
        start_from(tmp_path, nn.Conv3d(1, 1, 1), Split([*phantoms], [], []))
