"""Nothing runs that was not asked for, nothing leaves the machine, and nobody is named."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from pleural.data.phantom import Phantom
from pleural.errors import InputError
from pleural.prepared import OnDisk, Prepare
from pleural.preprocess import ChestCT
from pleural.run_folder import RunFolder
from pleural.train import train
from tests.conftest import ROOT, SMALL, run, write_run
from tests.test_train import settings, stop

SECRETS = {
    "PatientName": "Geheim^Erika",
    "PatientID": "MRN-47110815",
    "PatientBirthDate": "19440102",
    "AccessionNumber": "ACC998877",
    "InstitutionName": "Klinik Verborgen",
    "ReferringPhysicianName": "Arzt^Heimlich",
    "PatientAddress": "Hinterhof 7",
}


class Evil:
    """What a pickle does when it is loaded by who does not ask first."""

    def __init__(self, done: Path) -> None:
        self.done = done

    def __reduce__(self):
        return os.mkdir, (str(self.done),)


@pytest.mark.parametrize("name", ["best.pt", "last.ckpt"])
def test_weights_and_checkpoints_that_would_run_something_are_refused(tmp_path, name):
    folder, done = RunFolder(tmp_path), tmp_path / "done"
    torch.save({"weights": {}, "state_dict": {}, "evil": Evil(done)}, tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: cannot be read"):
        folder.load_best() if name == "best.pt" else folder.check_last()
    assert not done.exists()


def test_a_training_is_not_resumed_from_a_checkpoint_that_would_run_something(phantoms, tmp_path):
    train(**settings(phantoms, tmp_path / "run"))
    stop(tmp_path / "run")
    torch.save({"state_dict": {}, "evil": Evil(tmp_path / "done")}, tmp_path / "run" / "last.ckpt")
    with pytest.raises(InputError, match=r"last\.ckpt: cannot be read"):
        train(**settings(phantoms, tmp_path / "run"))
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("spoil", ["pickle", "cut", "missing"])
def test_prepared_cases_that_are_damaged_or_would_run_something_are_refused(
    phantoms, tmp_path, spoil
):
    preprocess = ChestCT((-1000, 1000), (8, 8, None), crop_to_body=True, margin_mm=10)
    prepare = OnDisk(Prepare(preprocess, (32, 24, 16)), tmp_path / "cache", mapped=True)
    prepare(phantoms[0])
    (image,) = (tmp_path / "cache").glob("*/image.npy")
    if spoil == "pickle":
        np.save(image, np.array([Evil(tmp_path / "done")], dtype=object))
    elif spoil == "cut":
        os.truncate(image, image.stat().st_size // 2)
    else:
        image.unlink()
    with pytest.raises(InputError, match=r"cannot be read.*delete it"):
        prepare(phantoms[0])
    assert not (tmp_path / "done").exists()


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """Three phantoms in DICOM whose headers say all about a patient."""
    root = tmp_path_factory.mktemp("named")
    cases = Phantom(root, n_cases=3, spacing_mm=(6, 6, 12), image_format="dicom").cases()
    for case in cases:
        for file in case.image.iterdir():
            header = pydicom.dcmread(file)
            for keyword, value in SECRETS.items():
                setattr(header, keyword, value)
            header.save_as(file)
    return root


def told_anywhere(folder: Path, secret: str) -> list[str]:
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    ]


def test_no_network_is_touched_and_no_header_s_names_are_told(named, tmp_path):
    """From training to report; a DICOM SEG belongs into the patient's file and says whose it is."""
    cases = [f"data.root={named}", "data.image_format=dicom", *SMALL[:2], "name=all"]
    training = [argument for argument in SMALL[2:] if not argument.startswith("fold=")]
    done = []
    for arguments in (
        ["-m", *training, "fold=0,1,2", "epochs=1"],
        ["task=predict", "task.runs=outputs/train/all", "task.held_out=true"],
        ["task=evaluate", "task.predictions=outputs/predict/all"],
        ["task=report", "task.run=outputs/evaluate/all"],
        ["task=report", "task.run=outputs/predict/all", "hydra.run.dir=outputs/report/predict"],
        ["task=audit"],
    ):
        done.append(run(tmp_path, "tests/offline.py", *arguments, *cases))
        assert done[-1].returncode == 0, done[-1].stderr
    (page,) = tmp_path.glob("outputs/audit/*/audit.md")
    assert "phantom_002" in page.read_text(encoding="utf-8")
    segs = tmp_path / "outputs" / "predict" / "all" / "segs"
    assert len(list(segs.iterdir())) == 3
    assert told_anywhere(segs, SECRETS["PatientID"])
    for file in segs.iterdir():
        file.unlink()
    for secret in SECRETS.values():
        assert told_anywhere(tmp_path / "outputs", secret) == []
        assert not any(secret in one.stdout + one.stderr for one in done)


def test_the_test_itself_would_notice_the_network(tmp_path):
    for touch in (
        "socket.socket()",
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.getaddrinfo('localhost', 9)",
        "socket.gethostbyname('localhost')",
    ):
        script = f"import tests.offline, socket; tests.offline.close(); {touch}"
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
        )
        assert "the network was touched" in done.stderr


def test_identifiers_are_kept_where_that_is_asked_for(named, tmp_path):
    trained = write_run(tmp_path / "run")
    cases = [f"data.root={named}", "data.image_format=dicom", *SMALL[:2], "name=all"]
    asked = ["task=predict", f"task.runs={trained}", "task.identifiers=keep"]
    for arguments in (asked, ["task=report", "task.run=outputs/predict/all"]):
        done = run(tmp_path, "run.py", *arguments, *cases)
        assert done.returncode == 0, done.stderr
    for name in ("predict/all/cases.csv", "predict/all/studies/phantom_000.json"):
        assert SECRETS["PatientName"] in (tmp_path / "outputs" / name).read_text(encoding="utf-8")
    page = (tmp_path / "outputs" / "report" / "all" / "report.html").read_text(encoding="utf-8")
    assert SECRETS["PatientID"] in page
    done = run(tmp_path, "run.py", *asked[:2], "task.identifiers=maybe", *cases)
    assert done.returncode == 2
    assert "drop or keep" in done.stderr
