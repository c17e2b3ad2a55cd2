"""What a machine does fastest, and where it is wrong."""

import pytest
import torch
from lightning_fabric.accelerators.mps import MPSAccelerator
from torch import nn

from pleural.hardware import autocast, fastest_device, fastest_precision, wrong_gradients
from pleural.trainer import trainer


def test_a_device_that_lacks_what_is_needed_is_not_chosen(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    assert fastest_device() == "cpu"
    made = trainer("32-true", "auto", max_epochs=1, max_time=None, logger=False)
    assert made.strategy.root_device.type == "cpu"


@pytest.mark.parametrize(
    ("cuda", "cuda_bf16", "cpu_bf16", "of_auto", "of_cpu"),
    [
        (True, True, False, "bf16-mixed", "32-true"),
        (True, False, True, "16-mixed", "bf16-mixed"),
        (False, False, True, "bf16-mixed", "bf16-mixed"),
        (False, False, False, "32-true", "32-true"),
    ],
)
def test_the_fastest_precision_is_what_the_device_computes_in(
    monkeypatch, cuda, cuda_bf16, cpu_bf16, of_auto, of_cpu
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda _: cuda_bf16)
    monkeypatch.setattr("pleural.hardware._cpu_has_bf16", lambda: cpu_bf16)
    assert (fastest_precision(), fastest_precision("cpu")) == (of_auto, of_cpu)


@pytest.mark.parametrize(
    ("name", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)]
)
def test_autocast_computes_in_the_precision_that_is_named(name, dtype):
    with autocast(torch.device("cpu"), name):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def net():
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, stride=2, padding=1), nn.BatchNorm3d(4), nn.Conv3d(4, 1, 3, padding=1)
    )


@pytest.mark.parametrize(("width", "wrong"), [(4, ["2"]), (3, ["2"]), (6, []), (2, ["0"])])
def test_convolutions_that_see_a_first_size_of_two_are_named(width, wrong):
    assert wrong_gradients(net(), (width, 8, 8)) == wrong


def test_a_kernel_of_one_is_right_at_any_size():
    assert wrong_gradients(nn.Conv3d(1, 1, 1), (2, 8, 8)) == []


def test_looking_changes_nothing_in_the_network():
    looked_at = net()
    before = {name: value.clone() for name, value in looked_at.state_dict().items()}
    wrong_gradients(looked_at, (8, 8, 8))
    for name, value in looked_at.state_dict().items():
        torch.testing.assert_close(value, before[name])
    assert not looked_at[0]._forward_pre_hooks
