"""Comparisons of runs: intervals of correlated times, what is taken of a log, verdicts, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from hpcsgd.cli import main
from hpcsgd.record import load_run
from hpcsgd.record.reader import Run
from hpcsgd.scaling.batches import Estimate, correlation_time, estimate, half_width, num_batches, student
from hpcsgd.scaling.compare import compare
from hpcsgd.scaling.differences import differences
from hpcsgd.scaling.observed import Observed, observe
from tests.single.analysis.fake_runs import FakeRun, constant

NUM_PAIRS = 20
Array = NDArray[np.float64]


def alike(rng: np.random.Generator, size: int, correlation: float) -> Array:
    """AR(1) noise of standard deviation 1."""
    noise = rng.standard_normal(size) * np.sqrt(1 - correlation**2)
    values = np.empty(size)
    values[0] = rng.standard_normal()
    for i in range(1, size):
        values[i] = correlation * values[i - 1] + noise[i]
    return values


def made_up(seed: int, slower: float = 1.0, size: int = 400, offset: float = 0.0) -> Observed:
    """A run of correlated times that drift by 1 %, with rare stalls; its transfer is ``slower``."""
    rng = np.random.default_rng(seed)
    drift = 0.01 * np.linspace(-0.5, 0.5, size) * rng.choice([-1, 1])
    stalls = np.where(rng.random(size) < 0.01, 0.2, 0.0)
    forward = 0.03 * (1 + offset + drift + 0.02 * alike(rng, size, 0.8)) + stalls
    transfer = 0.012 * slower * (1 + 0.03 * rng.standard_normal(size))
    spans = {"iteration": forward + transfer, "forward": forward, "gradient_allreduce transfer": transfer}
    return Observed(cast(Run, None), pd.DataFrame(spans), 0, {})


def changed(base: list[Observed], other: list[Observed]) -> dict[str, str]:
    """The spans that became slower or faster."""
    table = compare(base, other)
    return {row.span: row.verdict for row in table.itertuples() if row.verdict in ("slower", "faster")}


def test_the_correlation_time_of_autoregressive_noise() -> None:
    rng = np.random.default_rng(0)
    for correlation in (0.0, 0.5, 0.9):
        expected = (1 + correlation) / (1 - correlation)
        assert correlation_time(alike(rng, 20_000, correlation)) == pytest.approx(expected, rel=0.35)
    assert correlation_time(np.ones(10)) == 1


def test_batches_are_longer_where_neighbours_are_alike() -> None:
    rng = np.random.default_rng(0)
    assert num_batches(rng.standard_normal(900)) == 30
    assert 5 < num_batches(alike(rng, 900, 0.9)) < 15
    assert num_batches(np.linspace(0.0, 1.0, 900)) == 5


def test_the_error_of_correlated_times_is_not_that_of_independent_ones() -> None:
    """A mean of AR(1) noise varies (1 + rho) / (1 - rho) times as much; on average over seeds the batches see it."""
    rng = np.random.default_rng(0)
    errors = [estimate(alike(rng, 2000, 0.8), np.mean).error for _ in range(50)]
    assert np.mean(np.square(errors)) == pytest.approx(9 / 2000, rel=0.2)


def test_intervals_are_those_of_welch_and_of_student() -> None:
    one, two = Estimate(1.0, 0.3, 8.0), Estimate(2.0, 0.4, 12.0)
    degrees = 0.25**2 / (0.09**2 / 8 + 0.16**2 / 12)
    assert half_width([[one], [two]], 0.95) == pytest.approx(student(0.95, degrees) * 0.5)
    exact = [[Estimate(value, 0.0, 8.0) for value in side] for side in ((1.0, 2.0, 3.0), (5.0, 6.0))]
    pooled = (2.0 + 0.5) / 3
    assert half_width(exact, 0.95) == pytest.approx(student(0.95, 3) * np.sqrt(pooled * (1 / 3 + 1 / 2)))
    assert student(0.95, 1e9) == pytest.approx(1.96, abs=1e-3)


def test_equal_runs_raise_few_alarms_and_three_percent_are_found() -> None:
    alarms = [changed([made_up(2 * i)], [made_up(2 * i + 1)]) for i in range(NUM_PAIRS)]
    found = [changed([made_up(2 * i)], [made_up(2 * i + 1, slower=1.03)]) for i in range(NUM_PAIRS)]
    assert sum(map(bool, alarms)) <= 1
    assert sum(told.get("gradient_allreduce transfer") == "slower" for told in found) >= 18
    assert not any("forward" in told for told in found)


def test_several_runs_a_side_know_how_runs_differ() -> None:
    """Runs of one kind whose forward passes differ by 3 %: one a side is told to differ, four a side are not."""
    rng = np.random.default_rng(0)
    runs = [made_up(i, offset=0.03 * rng.standard_normal()) for i in range(48)]
    alone = sum("forward" in changed([runs[i]], [runs[i + 1]]) for i in range(0, 48, 2))
    sides = sum("forward" in changed(runs[i : i + 4], runs[i + 4 : i + 8]) for i in range(0, 48, 8))
    assert alone >= 6 and sides == 0


def test_a_span_that_hardly_counts_has_no_verdict() -> None:
    run = made_up(0)
    tiny = Observed(run.run, run.periods.assign(update=1e-5 + 1e-9 * np.arange(len(run.periods))), 0, {})
    much = Observed(run.run, run.periods.assign(update=2e-5 + 1e-9 * np.arange(len(run.periods))), 0, {})
    row = compare([tiny], [much]).set_index("span").loc["update"]
    assert row["verdict"] == "too small to matter" and np.isnan(row["low_seconds"]) and row["ratio"] > 1.9


STEPS = 48


def local_run(**changes: Any) -> FakeRun:
    """Two ranks that average in every fourth step, where rank 1 comes 10 ms late; the first steps are slow."""
    forward = constant(0.1, STEPS, 2)
    forward[:4] = 5.0
    averaging = np.zeros((STEPS, 2))
    averaging[3::4] = [0.05, 0.04]
    spans = {"forward_seconds": forward, "averaging_seconds": averaging, "logging_seconds": constant(0.001, STEPS, 2)}
    return replace(FakeRun(spans, (["none"] * 3 + ["global"]) * (STEPS // 4)), **changes)


@pytest.mark.parametrize("labels", [None, "summary"])
def test_periods_are_means_over_their_iterations_after_the_warm_up(labels: str | None, tmp_path: Path) -> None:
    """Five steps are warm-up, so that the first two periods are left out; with them the run would be too short."""
    observed = observe(load_run(local_run(labels=labels).write(tmp_path / "run")))
    assert observed.num_left_out == 8
    expected = {"iteration": 0.1125, "forward": 0.1, "averaging transfer": 0.01, "averaging wait": 0.00125}
    for name, value in expected.items():
        np.testing.assert_allclose(observed.periods[name], value, err_msg=name)
    assert observed.clocks["logging"].tolist() == [0.001] * STEPS and observed.clocks["evaluation"].empty


def test_only_what_differs_is_told(tmp_path: Path) -> None:
    versions = {"torch": "2.4", "numpy": "2.0"}
    config, changed_config = (
        {"seed": 1, "run_dir": name, "model": {"widths": [w]}} for name, w in (("a", 1), ("b", 2))
    )
    first = local_run(config=config, provenance={"versions": versions, "host": "a"})
    second = local_run(
        config=changed_config, provenance={"versions": versions | {"torch": "2.5"}, "host": "a"}, cores={0: "7"}
    )
    runs = [load_run(fake.write(tmp_path / name)) for fake, name in ((first, "a"), (second, "b"))]
    table = differences(runs[:1], runs[1:])
    assert table.to_numpy().tolist() == [
        ["recipe", "model.widths", "[1]", "[2]"],
        ["versions", "torch", "2.4", "2.5"],
        ["machine", "ranks.cores", "0, 1", "7, 1"],
    ]
    assert differences(runs[:1], runs[:1]).empty


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Logs of 100 steps of two ranks: two of the same, and one whose backward pass is 3 % slower."""
    folder, rng = tmp_path_factory.mktemp("compare"), np.random.default_rng(0)
    found = {}
    for name, slower in (("a", 1.0), ("same", 1.0), ("slow", 1.03)):
        noise = 1 + 0.01 * rng.standard_normal((100, 2))
        spans = {"forward_seconds": constant(0.01, 100, 2), "backward_seconds": 0.02 * slower * noise}
        found[name] = str(FakeRun(spans, ["gradient"] * 100).write(folder / name))
    found["short"] = str(FakeRun({"forward_seconds": constant(0.01, 12, 2)}, ["gradient"] * 12).write(folder / "short"))
    return found


def test_the_command_tells_a_regression(logs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", logs["a"], logs["slow"]]) == 0
    screen = capsys.readouterr().out
    assert "Regression: iteration +3." not in screen and "Regression: iteration +" in screen
    assert "backward +" in screen.splitlines()[-2] and "forward +" not in screen.splitlines()[-2]
    assert screen.splitlines()[-1].startswith("One run a side")
    assert main(["compare", logs["a"], logs["slow"], "--fail-on-regression", "--csv"]) == 1
    assert capsys.readouterr().out.startswith("span,base_seconds,other_seconds,change_seconds,low_seconds,")
    assert main(["compare", logs["slow"], "--against", logs["a"], logs["same"], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [len(told[side]) for side in ("base", "other")] == [2, 1] and told["level_percent"] == 99
    assert told["spans"][0]["span"] == "iteration"


def test_equal_runs_are_told_to_be(logs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", logs["a"], logs["same"], "--fail-on-regression"]) == 0
    screen = capsys.readouterr().out
    assert "Recipe, versions and machine are the same." in screen
    assert "No span changed the iteration by 0.5 % of it or more, beyond noise." in screen


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "compare takes two runs, or several with --against"),
        (["a", "same", "slow"], "3 are given"),
        (["a", "short"], "12 iterations, of which 7 in 7 synchronisation periods are left"),
        (["a", "same", "--level", "100"], "--level 100: a percentage between 0 and 100"),
        (["a", "same", "--least", "-1"], "--least -1: a percentage of the iteration"),
        (["a", "same", "--skip", "-1"], "--skip -1: 0 or more iterations"),
    ],
)
def test_mistakes_are_told(
    words: list[str], message: str, logs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *(logs.get(word, word) for word in words)]) == 2
    assert message in capsys.readouterr().err
