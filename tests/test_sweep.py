"""The table at a sweep's end."""

import csv
import json
import os

import pytest
from omegaconf import OmegaConf

from pleural.sweep import Table, short, taken_apart


def job(folder, name, overrides, result, reason=None):
    hydra = folder / name / ".hydra"
    hydra.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(overrides), hydra / "overrides.yaml")
    if result is not None:
        (folder / name / "run.json").write_text(json.dumps(result), encoding="utf-8")
    if reason is not None:
        (folder / name / "failed.txt").write_text(reason, encoding="utf-8")


def end(folder, task="train"):
    hydra = {"sweep": {"dir": str(folder)}, "runtime": {"choices": {"task": task}}}
    Table().on_multirun_end(OmegaConf.create({"hydra": hydra}))


def table(folder):
    with pytest.raises(SystemExit) as ended:
        end(folder)
    assert ended.value.code == 2
    with (folder / "sweep.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_job_has_a_row_also_one_that_failed(tmp_path, capsys):
    job(tmp_path, "a", ["seed=1", "+x.y=[1,2]"], {"dice": 0.81234, "best_epoch": 7})
    job(tmp_path, "b", ["seed=1", "+x.y=3"], {"finished": False, "split": {}})
    job(tmp_path, "c", ["seed=1", "~logger"], None)
    job(tmp_path, "d", ["seed=1", "+x.y=3"], {"dice": None, "best_epoch": 2})
    rows = table(tmp_path)
    assert [row["dice"] for row in rows] == ["0.8123", "failed", "failed", ""]
    assert [row["x.y"] for row in rows] == ["[1,2]", "3", "", "3"]
    assert [row["folder"] for row in rows] == ["a", "b", "c", "d"]
    told = capsys.readouterr().out
    assert "seed" not in told.splitlines()[1]  # only what differs is printed
    assert "x.y" in told.splitlines()[1]


def test_a_sweep_without_jobs_writes_nothing(tmp_path):
    end(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_tasks_write_tables_of_their_own(tmp_path):
    job(tmp_path, "a", ["task=predict"], None)
    end(tmp_path, task="predict")
    assert not (tmp_path / "sweep.csv").exists()


def test_a_failed_job_has_its_reason_in_the_table_whatever_its_task(tmp_path, capsys):
    job(tmp_path, "a", ["seed=1"], {"dice": 0.5, "best_epoch": 0}, reason="no room")
    assert [(row["dice"], row["reason"]) for row in table(tmp_path)] == [("failed", "no room")]
    job(tmp_path / "shards", "b", ["task=predict"], None, reason="no scans")
    job(tmp_path / "shards", "c", ["task=predict"], None)
    with pytest.raises(SystemExit):
        end(tmp_path / "shards", task="predict")
    assert "1 of 2 jobs failed" in capsys.readouterr().err


def test_what_failed_before_is_told_but_is_no_failure_of_this_command(tmp_path, capsys):
    job(tmp_path, "a", ["seed=1"], None, reason="no room")
    job(tmp_path, "b", ["seed=2"], {"dice": 0.5, "best_epoch": 0})
    began, old = tmp_path / "multirun.yaml", 10**18
    began.touch()
    for file in (tmp_path / "a" / ".hydra" / "overrides.yaml", tmp_path / "a" / "failed.txt"):
        os.utime(file, ns=(old, old))
    os.utime(began, ns=(old + 1, old + 1))
    end(tmp_path)
    assert "failed" in capsys.readouterr().out
    os.utime(tmp_path / "a" / "failed.txt", ns=(old + 2, old + 2))  # refused: no overrides written
    table(tmp_path)
    assert "1 of 2 jobs failed" in capsys.readouterr().err


def test_a_job_s_folder_may_be_one_of_windows():
    assert short('a-00:00:15_b-c/d_e-f\\g_h-*?"<>|') == "a-00-00-15_b-c-d_e-f-g_h-------"


def test_what_takes_away_or_goes_elsewhere_is_no_setting():
    for override in ("~start", "model@other=unet2d"):
        assert taken_apart(override) is None
    assert taken_apart("+data.root='/a b'") == ("data.root", "/a b")
