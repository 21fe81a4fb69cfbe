"""The clocks of record, against sums worked out by hand; and what the log keeps along its second axis."""

from __future__ import annotations

import numpy as np
import pytest

from hpcsgd.record.clocks import INDEX, Clocks, Evaluation, SharedRow
from hpcsgd.record.schema import RANK_COLUMNS
from hpcsgd.run.log import summarise_ranks


def row(step: int, epoch: int, sync_bytes: int = 10, num_global: int = 3) -> SharedRow:
    return SharedRow(step, epoch, 0.1, 1, sync_bytes, 0, 2, num_global)


def block(rows: list[list[dict[str, float]]]) -> np.ndarray:
    """``[rows, ranks, columns]`` with the given columns and zeros."""
    values = np.zeros((len(rows), len(rows[0]), len(RANK_COLUMNS)))
    for i, ranks in enumerate(rows):
        for j, columns in enumerate(ranks):
            for name, value in columns.items():
                values[i, j, INDEX[name]] = value
    return values


def seconds(forward: float, update: float, evaluation: float = 0.0, loss: float = 0.0, num_samples: int = 1):
    return {
        "forward_seconds": forward,
        "update_seconds": update,
        "evaluation_seconds": evaluation,
        "logging_seconds": 0.5,
        "loss": loss,
        "loss_weight": num_samples,
        "num_samples": num_samples,
    }


def test_an_epoch_is_the_slowest_rank_and_the_mean_of_all_samples() -> None:
    clocks = Clocks(world_size=2, steps_per_epoch=2)
    rows = [
        [seconds(1, 2, loss=1.0, num_samples=2), seconds(2, 0.5, loss=4.0)],
        [seconds(1, 1, 7, loss=1.0, num_samples=2), seconds(3, 1, 8, loss=np.nan, num_samples=0)],
    ]
    epochs, evaluations = clocks.advance([row(0, 0), row(1, 0, num_global=2)], block(rows))
    (epoch,) = epochs
    assert evaluations == []
    # Rank 0 trained 3 + 2, rank 1 2.5 + 4 seconds: the maximum of the sums, not the sum of the maxima.
    assert epoch["train_seconds"] == 6.5
    assert epoch["evaluation_seconds"] == 8
    assert epoch["logging_seconds"] == 1
    assert epoch["train_loss"] == pytest.approx((2 * 1.0 + 4.0 + 2 * 1.0) / 5)
    assert (epoch["step"], epoch["num_samples"], epoch["sync_bytes"]) == (2, 5, 20)


def test_an_epoch_weighs_its_losses_by_what_they_say_and_goes_on_from_a_checkpoint() -> None:
    rows = block([[seconds(1, 2, loss=2.0) | {"loss_weight": 5.0}], [seconds(1, 2, loss=1.0) | {"loss_weight": 0.5}]])
    clocks = Clocks(world_size=1, steps_per_epoch=2)
    clocks.advance([row(0, 0)], rows[:1])
    state = clocks.state_dict()
    (epoch,) = clocks.advance([row(1, 0)], rows[1:])[0]
    assert epoch["train_loss"] == pytest.approx((5 * 2.0 + 0.5 * 1.0) / 5.5)
    # One of before there were weights: they are the samples, 3 so far.
    del state["epoch"]["loss_weight"]
    clocks.load_state_dict(state)
    (epoch,) = clocks.advance([row(1, 0)], rows[1:])[0]
    assert epoch["train_loss"] == pytest.approx((5 * 2.0 + 0.5 * 1.0) / 3.5)


def test_an_epoch_may_come_in_several_gathers_and_end_early() -> None:
    clocks = Clocks(world_size=1, steps_per_epoch=4)
    assert clocks.advance([row(0, 0)], block([[seconds(1, 0)]]))[0] == []
    assert clocks.advance([row(1, 0)], block([[seconds(1, 0)]]))[0] == []
    assert clocks.advance([row(2, 0)], block([[seconds(1, 0)]]))[0] == []
    (epoch,) = clocks.rest()
    assert (epoch["step"], epoch["train_seconds"]) == (3, 3)
    (epoch,) = clocks.advance([row(3, 0)], block([[seconds(1, 0)]]))[0]
    assert (epoch["step"], epoch["train_seconds"]) == (4, 4) and clocks.rest() == []


def test_an_evaluation_waits_for_the_clock_at_its_step() -> None:
    clocks = Clocks(world_size=2, steps_per_epoch=10)
    clocks.pending.append(Evaluation(2, 0.2, "test", "accuracy", 0.5, 30))
    assert clocks.advance([row(0, 0)], block([[seconds(1, 0), seconds(2, 0)]]))[1] == []
    (evaluation,) = clocks.advance([row(1, 0), row(2, 0)], block([[seconds(4, 0), seconds(2, 0)]] * 2))[1]
    assert evaluation["train_seconds"] == 5  # rank 0: 1 + 4; the third iteration is not in it
    assert evaluation["sync_bytes"] == 20
    assert (evaluation["split"], evaluation["metric"], evaluation["value"]) == ("test", "accuracy", 0.5)
    assert clocks.pending == []


def test_summary_is_minimum_median_and_maximum() -> None:
    everyone = np.repeat(np.array([3.0, 1.0, 2.0, 10.0]).reshape(1, 4, 1), len(INDEX), axis=2)
    # Of a node one rank alone tells the energy.
    everyone[:, [0, 2], INDEX["node_energy_joules"]] = np.nan
    found = summarise_ranks(everyone)
    assert found[0, :, INDEX["loss"]].tolist() == [1.0, 2.5, 10.0]
    assert found[0, :, INDEX["node_energy_joules"]].tolist() == [1.0, 5.5, 10.0]


def test_a_loss_that_is_not_finite_makes_the_epochs_so_and_a_lost_rank_adds_nothing() -> None:
    lost = {name: float("nan") for name in INDEX} | {"num_samples": 0}
    for bad in (float("nan"), float("inf")):
        clocks = Clocks(world_size=2, steps_per_epoch=2)
        rows = [
            [seconds(1, 0, loss=1.0), seconds(2, 0, loss=3.0)],
            [seconds(1, 0, loss=2.0), lost],
            [seconds(1, 0, loss=bad), lost],
            [seconds(1, 0, loss=1.0), lost],
        ]
        shared = [row(0, 0, num_global=2), *(row(step, step // 2, num_global=1) for step in (1, 2, 3))]
        whole, diverged = clocks.advance(shared, block(rows))[0]
        assert (whole["train_loss"], whole["train_seconds"]) == (2.0, 2.0)
        assert not np.isfinite(diverged["train_loss"])
        assert diverged["train_seconds"] == 2.0
