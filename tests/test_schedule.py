"""How the learning rate moves."""

import pytest
from omegaconf import OmegaConf

from benchmarks.broken import ROOT
from pleural.schedule import Constant, Cosine, Plateau, Poly

ALL = [Constant(0.1), Cosine(0.1, 0.0), Poly(0.1, 0.9), Plateau(0.1, 2, 0.5)]


@pytest.mark.parametrize("schedule", ALL)
def test_it_climbs_during_the_warmup(schedule):
    climb = [schedule(p) for p in (0.0, 0.03, 0.06, 0.1)]
    assert climb == sorted(climb)
    assert 0 < climb[0] < 0.01
    assert climb[-1] > 0.85


@pytest.mark.parametrize("schedule", [Constant(0.0), Cosine(0.0, 0.0), Poly(0.0, 0.9)])
def test_without_a_warmup_it_starts_at_the_rate(schedule):
    assert schedule(0.0) == 1


def test_cosine_comes_to_its_end():
    schedule = Cosine(warmup=0.2, final=0.1)
    assert schedule(0.6) == pytest.approx((1 + 0.1) / 2)  # half way after the warm-up
    assert schedule(1.0) == pytest.approx(0.1)
    assert schedule(1.2) == pytest.approx(0.1)  # a last step may fall just after the budget


def test_poly_comes_to_zero():
    assert Poly(0.0, 0.9)(0.5) == pytest.approx(0.5**0.9)
    assert Poly(0.0, 0.9)(1.0) == 0
    assert Poly(0.0, 0.9)(1.1) == 0


def test_the_default_budgets_leave_plateau_time_to_act():
    def read(name):
        return OmegaConf.load(ROOT / "conf" / name)

    default = read("config.yaml")
    of_whole_patches = default.epochs * (1 - default.coarse_until)
    assert of_whole_patches > read("scheduler/plateau.yaml").patience + 1


def test_plateau_halves_after_more_than_its_patience():
    schedule = Plateau(warmup=0.0, patience=1, factor=0.5)
    factors = []
    for dice in (0.1, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3):
        schedule.observe(dice)
        factors.append(schedule(0.5))
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
