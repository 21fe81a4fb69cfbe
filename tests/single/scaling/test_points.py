"""The cost model of a table of points: closed forms, what intervals hold, and published rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hpcsgd.errors import UsageError
from hpcsgd.scaling.curve import Points, Prior, posterior, quantile
from hpcsgd.scaling.learned import learn, make, telling
from hpcsgd.scaling.points import predict_points

PRIOR = Prior(
    level=-1.36, power=0.5, spread=0.19, kinship=0.2, transfer=0.22, latency=0.006, noise=0.049, care=0.66
)  # fmt: skip


def exact(gpus: list[float], local_batch: list[float], pace: float = 1.4e-4, fixed: float = 3.6e-3) -> Points:
    """Points that lie on a curve."""
    nodes = np.maximum(1.0, np.array(gpus) / 8)
    batch = np.array(local_batch)
    return Points(np.array(gpus), nodes, batch, pace * batch + fixed)


def test_the_quantiles_of_a_mixture() -> None:
    means, errors, weights = np.array([0.0, 10.0]), np.array([1.0, 1.0]), np.array([0.75, 0.25])
    assert quantile(means, errors, weights, 0.375) == pytest.approx(0, abs=1e-6)
    assert quantile(means, errors, weights, 0.875) == pytest.approx(10, abs=1e-6)


def test_points_on_a_curve_are_found_again_where_errors_are_small() -> None:
    prior = Prior(PRIOR.level, PRIOR.power, 0.3, 0.2, 1e-6, 1e-6, 0.003, 0.1)
    curve = posterior(exact([8, 64, 64], [400, 50, 20]), prior)
    middle, low, high = curve.predict(512, 64, 16)
    assert middle == pytest.approx(1.4e-4 * 16 + 3.6e-3, rel=0.01)
    assert low < middle < high < 1.05 * middle


def test_what_the_points_do_not_tell_widens_the_interval() -> None:
    """One point leaves open what of a step is fixed, and a smaller batch asks for it; kin tell some of it."""
    two, one = exact([8, 64], [400, 50]), exact([8], [400])
    widths = []
    for points, kin in ((two, []), (one, [two] * 3), (one, [])):
        _, low, high = posterior(points, PRIOR, kin).predict(512, 64, 16)
        widths.append(high / low)
    assert max(widths[:2]) < widths[2]


def test_a_transfer_between_nodes_counts_from_the_second_node_on() -> None:
    points = exact([8, 16], [100, 100])
    slower = Points(points.gpus, points.nodes, points.local_batch, points.seconds * np.array([1.0, 1.2]))
    curve, even = (posterior(known, PRIOR) for known in (slower, points))
    assert curve.weights @ curve.transfer > 1.2 * (even.weights @ even.transfer)


def test_a_prior_is_learned_from_systems_that_tell_compute_from_what_is_fixed() -> None:
    known, alike = exact([8, 64], [400, 50]), exact([8, 16], [400, 200])
    assert telling([known, alike, exact([8], [400])]) == [known]
    start = make([-1.0, 0.5, -1.5, -1.2, -1.5, -5.0, -3.5, -0.5], 0, 1)
    assert (
        start.level == -1
        and start.spread == pytest.approx(np.exp(-1.5))
        and start.care == pytest.approx(0.6065, abs=1e-4)
    )
    middles = [
        learn({"x": {"a": [exact([8, 64], [400, 50], fixed=fixed)] * 2}}, max_rounds=1)["x"].fixed(1.4e-4)
        for fixed in (2e-3, 8e-3)
    ]
    assert middles[0] < 0.7 * middles[1]


def test_a_table_of_ones_own_is_predicted() -> None:
    known = exact([8, 64], [400, 50])
    table = pd.DataFrame({"gpus": known.gpus, "global_batch": known.gpus * known.local_batch, "seconds": known.seconds})
    at = pd.DataFrame({"gpus": [64, 512], "global_batch": [3200, 20480]})
    told = predict_points(table, at)
    assert list(told) == ["gpus", "global_batch", "seconds", "low_seconds", "high_seconds"]
    expected = 1.4e-4 * np.array([50, 40]) + 3.6e-3
    assert told["seconds"].to_numpy() == pytest.approx(expected, rel=0.05)
    assert (told["low_seconds"] < expected).all() and (expected < told["high_seconds"]).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"gpu": [8], "global_batch": [64], "seconds": [0.1]}, "no column 'gpus' .*did you mean gpu?"),
        ({"gpus": [8], "global_batch": [64], "seconds": [0.0]}, "seconds is 0.0 in row 0, not a number above 0"),
        ({"gpus": ["x"], "global_batch": [64], "seconds": [0.1]}, "gpus is x in row 0"),
        ({"gpus": [], "global_batch": [], "seconds": []}, "the measured points: no row"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        predict_points(pd.DataFrame(columns), pd.DataFrame({"gpus": [64], "global_batch": [512]}))
