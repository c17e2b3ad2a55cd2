"""A training run on disk."""

import pytest
import torch

from pleural.io.whole import write_table, write_whole
from pleural.run_folder import RunFolder


def test_weights_load_without_running_code(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.save_best(torch.nn.Linear(2, 1).state_dict(), epoch=3, val_dice=0.5)
    content = torch.load(run.best, weights_only=True)
    assert content["epoch"] == 3
    assert content["val_dice"] == 0.5
    assert set(content["weights"]) == {"weight", "bias"}


def test_a_table_has_the_columns_of_all_rows(tmp_path):
    path = tmp_path / "table.csv"
    assert write_table(path, [{"a": 1}, {"a": 2, "b": 3}]) == ["a", "b"]
    assert path.read_text(encoding="utf-8").splitlines() == ["a,b", "1,", "2,3"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "kept.txt"
    write_whole(path, lambda partial: partial.write_text("old"))

    def fails(partial):
        partial.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fails)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
