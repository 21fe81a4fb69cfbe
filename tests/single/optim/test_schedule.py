"""Learning rates in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsgd.config import LearningRateConfig
from hpcsgd.optim.schedule import LearningRate, scaled_rate

STEPS = 10  # of an epoch
EPOCHS = 8


def make(**changes: Any) -> LearningRate:
    config = LearningRateConfig(**({"base": 0.1, "base_batch_size": 64, "scaling_rule": "linear"} | changes))
    return LearningRate(config, 256, STEPS, EPOCHS)


def rates(**changes: Any) -> list[float]:
    rate = make(**changes)
    return [rate(step) for step in range(EPOCHS * STEPS)]


@pytest.mark.parametrize(("rule", "factor"), [("linear", 4.0), ("sqrt", 2.0), ("none", 1.0)])
def test_scaling_rules(rule: str, factor: float) -> None:
    config = LearningRateConfig(base=0.3, base_batch_size=64, scaling_rule=rule)  # type: ignore[arg-type]
    assert scaled_rate(config, 256) == pytest.approx(0.3 * factor)
    assert scaled_rate(config, 64) == pytest.approx(0.3)
    assert make(base=0.3, scaling_rule=rule).peak == pytest.approx(0.3 * factor)


def test_goyals_rate() -> None:
    config = LearningRateConfig(base=0.1, base_batch_size=256)
    assert scaled_rate(config, 8192) == pytest.approx(3.2)


def test_no_decay_is_constant() -> None:
    assert rates() == [0.4] * EPOCHS * STEPS
    assert make().first_drop is None


def test_step_decay() -> None:
    changes = {"decay": "step", "milestones": (3.0, 5.5), "decay_factor": 0.1}
    expected = [0.4] * 30 + [0.04] * 25 + [0.004] * 25
    assert rates(**changes) == pytest.approx(expected)
    assert make(**changes).first_drop == 30
    assert [step for step in range(80) if make(**changes).drops(step)] == [30, 55]


def test_drops_are_events_of_the_rate_itself() -> None:
    # Not a milestone within a warm-up, nor a smooth decay.
    warm = make(decay="step", milestones=(1.0, 3.0), warmup="gradual", warmup_epochs=2.0)
    assert [step for step in range(80) if warm.drops(step)] == [30]
    assert not any(make(decay="cosine").drops(step) for step in range(80))


def test_smooth_decays_over_the_whole_run() -> None:
    done = [step / (EPOCHS * STEPS) for step in range(EPOCHS * STEPS)]
    assert rates(decay="linear") == pytest.approx([0.4 * (1 - d) for d in done])
    assert rates(decay="polynomial", power=2.0) == pytest.approx([0.4 * (1 - d) ** 2 for d in done])
    assert rates(decay="polynomial") == pytest.approx(rates(decay="linear"))
    assert rates(decay="cosine") == pytest.approx([0.2 * (1 + math.cos(math.pi * d)) for d in done])
    assert all(rate > 0 for decay in ("linear", "polynomial", "cosine") for rate in rates(decay=decay))


@pytest.mark.parametrize("decay", ["linear", "polynomial", "cosine"])
def test_smooth_decays_end_at_the_final_fraction_and_stay(decay: str) -> None:
    values = rates(
        decay=decay, decay_epochs=4.0, final_fraction=0.25, **({"power": 3.0} if decay == "polynomial" else {})
    )
    assert values[0] == pytest.approx(0.4)
    assert values[40:] == pytest.approx([0.1] * 40)
    assert all(later < earlier for earlier, later in zip(values[:40], values[1:41], strict=True))
    half = {"linear": 0.25 + 0.75 / 2, "polynomial": 0.25 + 0.75 / 8, "cosine": 0.25 + 0.75 / 2}[decay]
    assert values[20] == pytest.approx(0.4 * half)


def test_shallues_linear_decay() -> None:
    # To alpha eta over T steps, then constant.
    alpha, steps = 0.1, 60
    values = rates(decay="linear", decay_epochs=6.0, final_fraction=alpha)
    expected = [0.4 * (1 - (1 - alpha) * min(t, steps) / steps) for t in range(EPOCHS * STEPS)]
    assert values == pytest.approx(expected)


def test_constant_warm_up() -> None:
    values = rates(warmup="constant", warmup_epochs=2.5, warmup_start=0.05)
    assert values == [0.05] * 25 + [0.4] * 55
    assert rates(warmup="constant", warmup_epochs=2.5)[0] == 0.1, "from the base rate unless told"


def test_gradual_warm_up() -> None:
    values = rates(warmup="gradual", warmup_epochs=5.0)
    assert values == pytest.approx([0.1 + 0.3 * min(step, 50) / 50 for step in range(80)])
    assert rates(warmup="gradual", warmup_epochs=5.0, warmup_start=0.0)[0] == 0.0


@pytest.mark.parametrize("warmup", ["constant", "gradual"])
def test_no_warm_up_epochs_are_no_warm_up(warmup: str) -> None:
    assert rates(warmup=warmup, warmup_epochs=0.0) == [0.4] * 80


def test_the_warm_up_does_not_shift_the_decay() -> None:
    for changes in ({"decay": "step", "milestones": (5.0, 7.0)}, {"decay": "cosine"}, {"decay": "linear"}):
        plain, warmed = rates(**changes), rates(**changes, warmup="gradual", warmup_epochs=3.0)
        assert warmed[30:] == plain[30:]
        differences = [b - a for a, b in zip(warmed[:30], warmed[1:31], strict=True)]
        assert differences == pytest.approx([differences[0]] * 30)


@given(
    st.sampled_from(["none", "step", "linear", "polynomial", "cosine"]),
    st.sampled_from(["none", "constant", "gradual"]),
    st.floats(0.0, 9.0),
    st.floats(0.1, 12.0),
    st.integers(0, 200),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_rates_stay_between_zero_and_the_peak(
    decay: str, warmup: str, warmup_epochs: float, decay_epochs: float, step: int
) -> None:
    own = {"milestones": (2.0, 4.0)} if decay == "step" else {"decay_epochs": decay_epochs}
    rate = make(decay=decay, warmup=warmup, warmup_epochs=warmup_epochs, **own)
    assert 0 <= rate(step) <= rate.peak * (1 + 1e-12)
    assert rate(step) == rate(step)
