"""The parts of the cost model: slowness of three kinds, tails, and collectives by level."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls

from hpcsgd.errors import UsageError
from hpcsgd.scaling.collectives import Timing, fit_costs, non_negative
from hpcsgd.scaling.methods import parse_method
from hpcsgd.scaling.network import doctor_timings, read_network
from hpcsgd.scaling.ranks import Noise, expected_power, fit_noise, spectra, split_effects
from hpcsgd.scaling.tails import fit_independent, normal_sample
from hpcsgd.study.machine import Level, Network


def series(correlated: float, correlation: float, independent: float, steps: int, ranks: int) -> np.ndarray:
    generator = np.random.default_rng(3)
    state, rows = generator.standard_normal(ranks), []
    for _ in range(steps):
        rows.append(correlated * state + independent * generator.standard_normal(ranks))
        state = correlation * state + math.sqrt(1 - correlation**2) * generator.standard_normal(ranks)
    return np.array(rows)


def test_correlated_and_independent_slowness_are_told_apart() -> None:
    found = fit_noise(spectra([series(0.06, 0.9, 0.1, 300, 16)]))
    assert (found.correlated, found.independent) == pytest.approx((0.06, 0.1), rel=0.15)
    assert found.correlation == pytest.approx(0.9, abs=0.06)
    white = fit_noise(spectra([series(0.0, 0.0, 0.1, 60, 4), series(0.0, 0.0, 0.1, 40, 2)]))
    assert white.correlated == 0 and white.independent == pytest.approx(0.1, rel=0.15)
    assert fit_noise([]) == fit_noise(spectra([np.zeros((50, 2))])) == Noise(0.0, 0.0, 0.0)


def test_the_periodogram_of_a_short_series_is_expected_as_it_is() -> None:
    (found,) = spectra([series(1.0, 0.95, 0.0, 48, 4000)])
    assert np.allclose(found.power / expected_power(0.95, 48), 1, atol=0.15)


def test_the_variance_of_a_mean_is_that_of_the_series() -> None:
    noise = Noise(0.06, 0.9, 0.1)
    means = series(0.06, 0.9, 0.1, 25, 20000).mean(axis=0)
    assert means.var() == pytest.approx(noise.variance_of_mean(25), rel=0.05)


def test_what_stays_is_told_from_what_a_short_run_happens_to_have() -> None:
    generator = np.random.default_rng(5)
    chance = split_effects(0.02 * generator.standard_normal(64), [0.02**2] * 64, ["n"] * 64)
    assert chance.devices[0].std() < 0.01
    effects = split_effects([0.2, 0.0, 0.0, 0.0], [1e-6] * 4, ["n"] * 4)
    assert effects.devices[0] == pytest.approx([0.15, -0.05, -0.05, -0.05], rel=1e-3)


def test_a_slow_node_is_slow_in_all_its_devices() -> None:
    generator = np.random.default_rng(6)
    nodes = np.repeat(0.1 * generator.standard_normal(40), 4)
    found = split_effects(
        nodes + 0.02 * generator.standard_normal(160), [0.0] * 160, [f"n{k // 4}" for k in range(160)]
    )
    assert found.nodes.std() == pytest.approx(nodes.std(), rel=0.05)
    # Of 4 devices around their own mean.
    assert np.concatenate(found.devices).std() == pytest.approx(0.02 * math.sqrt(3 / 4), rel=0.15)
    drawn = found.draw(8, 4, generator)
    assert np.ptp(drawn[:4]) < 0.15 and drawn.shape == (8,)


def test_a_tail_goes_on_beyond_what_was_seen() -> None:
    generator = np.random.default_rng(7)
    drawn = fit_independent(generator.exponential(size=2000)).draw((1 << 20,), generator)
    assert drawn.mean() == pytest.approx(0, abs=0.02) and drawn.std() == pytest.approx(1, rel=0.05)
    # The largest of 1,000: 1 + 1/2 + ... + 1/1000 less the mean.
    assert drawn[: 1000 * 1000].reshape(1000, 1000).max(axis=1).mean() == pytest.approx(6.49, rel=0.15)
    normal = fit_independent(normal_sample())
    assert np.quantile(normal.draw((1 << 18,), generator), 0.999) == pytest.approx(3.09, rel=0.05)
    assert np.array_equal(fit_independent(np.zeros(200)).cells, normal.cells)


TRUE = Network(Level(5e-6, 8e9), Level(30e-6, 1e9))


def timed(nodes: tuple[int, ...], num_bytes: float, parts: int = 1) -> Timing:
    seconds = 1e-4 + parts * TRUE.allreduce(num_bytes / parts, nodes).seconds
    return Timing("allreduce", num_bytes, nodes, seconds, 1e-7 + 1e-4 * seconds, parts)


def test_collectives_are_told_by_level_latency_and_bandwidth() -> None:
    timings = [timed(nodes, n) for nodes in ((0,), (0, 0), (0, 0, 1, 1), (0, 1, 2)) for n in (1e3, 1e6, 1e8)]
    found = fit_costs([*timings, timed((0, 0, 1, 1), 1e8, parts=40)]).solve()
    assert found.own_seconds == pytest.approx(1e-4, rel=0.02)
    for ours, true in ((found.network.within, TRUE.within), (found.network.between, TRUE.between)):
        assert ours.latency_seconds == pytest.approx(true.latency_seconds, rel=0.1)
        assert ours.bytes_per_second == pytest.approx(true.bytes_per_second, rel=0.01)
    far = [rank // 8 for rank in range(512)]
    assert found.seconds("allreduce", 1e8, far) == pytest.approx(1e-4 + TRUE.allreduce(1e8, far).seconds, rel=0.05)


def test_a_level_that_nothing_crosses_is_a_wide_guess() -> None:
    unknown = fit_costs([timed((0,), 1e8), timed((0, 0), 1e8)])
    generator = np.random.default_rng(0)
    speeds = np.array([unknown.solve(generator).network.between.bytes_per_second for _ in range(100)], float)
    assert speeds.max() / speeds.min() > 5 and speeds.max() < 1.3 * 8e9
    given = fit_costs([timed((0,), 1e8), timed((0, 0), 1e8)], TRUE).solve(generator)
    assert given.network is TRUE and given.own_seconds == pytest.approx(1e-4, rel=0.1)


def test_least_squares_without_negative_numbers() -> None:
    generator = np.random.default_rng(8)
    for _ in range(20):
        rows, values = generator.standard_normal((7, 5)), generator.standard_normal(7)
        assert np.allclose(non_negative(rows, values), nnls(rows, values)[0])


DOCTOR = """ranks               4 on 2 nodes
MPI                 Open MPI 5.0.8

allreduce, bytes  median time  bytes / time  sums
8                 11.0 µs      0.001 GB/s    right
1048576           900.5 µs     1.164 GB/s    right
"""


def test_the_table_of_doctor_is_read() -> None:
    small, large = doctor_timings(DOCTOR)
    assert small.nodes == (0, 0, 1, 1) and (small.num_bytes, large.num_bytes) == (8, 1048576)
    assert large.seconds == pytest.approx(900.5e-6)
    assert doctor_timings("ranks  1 on 1 node\n") == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("net.toml", "[within]\n", r"give the tables \[within\] and \[between\]"),
        ("net.toml", "[within]\nlatency = 1\n[between]\n", r"\[within\] latency: did you mean latency_seconds\?"),
        ("net.toml", "[within]\nbytes_per_second = 0\n[between]\n", "bytes_per_second is 0: write more than 0"),
        ("net.toml", "within", "no TOML"),
        ("doctor.txt", "nothing", r"neither a \.toml file nor what hpcsgd doctor has printed"),
    ],
)
def test_a_file_of_a_network_that_is_none(name: str, content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_network(path)


@pytest.mark.parametrize(
    "text", ["sync_sgd", "local_sgd:16", "hierarchical_local_sgd:4x8", "sma:1", "local_sgd:4+late=2+ef_sign"]
)
def test_algorithms_are_read_as_they_are_written(text: str) -> None:
    assert parse_method(text).text == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sync", "did you mean"),
        ("local_sdg:4", r"did you mean local_sgd\?"),
        ("local_sgd", "how many steps between averagings"),
        ("local_sgd:4x2", "local_sgd has no blocks"),
        ("local_sgd:0", "a period is 1 or more"),
        ("sync_sgd:4", "sync_sgd takes no period"),
        ("local_sgd:4+ef_sig", r"did you mean ef_sign\?"),
        ("local sgd", "write NAME"),
    ],
)
def test_an_algorithm_that_is_none(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_method(text)
