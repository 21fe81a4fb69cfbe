"""Causes in runs that are made up: none where there is none, and each by the size from which it counts."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from hpcsgd.record.schema import ACTIONS
from hpcsgd.scaling.causes import LEAST_SHARE, Case, Finding, causes_of_parts
from hpcsgd.scaling.causes_course import causes_of_course
from hpcsgd.scaling.causes_ranks import causes_of_ranks
from hpcsgd.scaling.explain_digest import PARTS, digest
from tests.single.scaling.explain_cases import actions_of, case_of, columns_of, noisy

STEPS = 96


def findings(case: Case) -> list[Finding]:
    return [*causes_of_parts(case), *causes_of_ranks(case), *causes_of_course(case)]


def named(case: Case) -> list[str]:
    return [finding.cause for finding in findings(case)]


def test_nothing_is_named_in_200_runs_with_nothing_wrong() -> None:
    """Of 2 to 32 ranks, 40 to 120 steps, H of 1 and 4, with slowness that is new in each step and that goes on."""
    kinds = list(product((2, 4, 8, 32), (40, 80, 120), (1, 4), (0.0, 0.01)))
    alarms = Counter[str]()
    for seed in range(200):
        ranks, steps, period, correlated = kinds[seed % len(kinds)]
        alarms.update(named(case_of(noisy(seed, steps, ranks, 0.01, correlated), period)))
    assert alarms.total() <= 4, alarms


def test_no_rank_is_called_slow_and_no_run_drifting_where_ranks_jitter() -> None:
    """Slowness of 10 % that goes on for 20 steps looks lasting in short runs, and is not."""
    alarms = Counter[str]()
    for seed in range(60):
        alarms.update(set(named(case_of(noisy(seed, 100, 8, 0.1, 0.1 * (seed % 2))))))
    assert alarms.pop("jitter") == 60
    assert alarms.total() <= 1, alarms


@pytest.mark.parametrize(("factor", "least"), [(1.02, 0), (1.15, 10), (1.3, 10)])
@pytest.mark.parametrize("period", [1, 4])
def test_a_slow_rank_is_found_from_the_share_on_that_counts(factor: float, least: int, period: int) -> None:
    found = 0
    for seed in range(10):
        compute = noisy(seed, STEPS, 8, 0.03)
        compute[:, 5] *= factor
        slow = [finding for finding in findings(case_of(compute, period)) if finding.cause == "slow_rank"]
        found += bool(slow)
        assert all(finding.ranks == (5,) and finding.share >= LEAST_SHARE for finding in slow)
    assert found == least


def test_a_slow_node_is_one_and_its_cost_is_what_curing_it_saves() -> None:
    compute = noisy(1, STEPS, 8, 0.02)
    quick = case_of(compute)
    compute[:, 4:] *= 1.25
    [finding] = [f for f in findings(case_of(compute)) if f.cause != "jitter"]
    assert (finding.cause, finding.ranks, finding.node) == ("slow_node", (4, 5, 6, 7), "n1")
    slow = case_of(compute)
    assert finding.share == pytest.approx(1 - quick.seconds / slow.seconds, abs=0.02)


def test_one_of_two_ranks_is_slow() -> None:
    compute = noisy(2, STEPS, 2)
    compute[:, 0] *= 1.2
    [finding] = findings(case_of(compute, ranks_per_node=1))
    assert (finding.cause, finding.ranks) == ("slow_rank", (0,))


def test_a_rank_that_becomes_slow_is_named_with_the_step() -> None:
    compute = noisy(3, STEPS, 8)
    compute[40:, 2] *= 1.4
    [finding] = [f for f in findings(case_of(compute)) if f.cause == "slow_rank"]
    assert finding.ranks == (2,) and "since step 40" in finding.text


def test_a_rank_that_writes_the_log_for_all_is_not_slow() -> None:
    """What the others wait for it meanwhile is the log's cost, whole."""
    compute = noisy(4, STEPS, 8)
    logging = np.zeros_like(compute)
    logging[:, 0] = 0.02
    case = case_of(compute, logging_seconds=logging)
    assert named(case) == ["logging"]
    assert case.shares["logging"] == pytest.approx(0.02 / case.digest.seconds.mean(), rel=0.15)


def test_the_parts_are_the_time_of_the_ranks_whole() -> None:
    """Also where the log is read in blocks, that cut rounds of H = 4."""
    compute = noisy(5, STEPS, 4, 0.1)
    evaluation = np.zeros_like(compute)
    evaluation[9::10] = 0.3
    columns = columns_of(compute, 4, evaluation_seconds=evaluation)
    whole = digest(actions_of(STEPS, 4), [columns], rank_blocks=[0] * 4)
    cut = [{name: values[i : i + 7] for name, values in columns.items()} for i in range(0, STEPS, 7)]
    pieces = digest(actions_of(STEPS, 4), cut, rank_blocks=[0] * 4)
    np.testing.assert_allclose(whole.seconds, columns["wall_seconds"].mean(axis=1))
    assert set(whole.parts) == set(PARTS)
    for name in PARTS:
        np.testing.assert_allclose(pieces.parts[name], whole.parts[name], atol=1e-12)
    np.testing.assert_array_equal(pieces.rounds, whole.rounds)
    assert whole.lateness is not None and pieces.lateness is not None
    np.testing.assert_allclose(pieces.lateness, whole.lateness, atol=1e-6)
    # Who computes longest since the last averaging is the last to arrive.
    own = compute.reshape(-1, 4, 4).sum(axis=1)
    np.testing.assert_array_equal(whole.lateness.argmax(axis=1), own.argmax(axis=1))


def test_blocks_of_ranks_wait_for_their_own_last() -> None:
    compute = noisy(6, STEPS, 8, 0.001)
    compute[:, 4:] *= 2
    columns = columns_of(compute)
    # Each block leaves when its own last has come.
    acts = np.full(STEPS, ACTIONS.index("block"))
    for block in (slice(0, 4), slice(4, 8)):
        enter = columns["sync_enter_seconds"][:, block]
        stay = columns_of(compute[:, block])["gradient_allreduce_seconds"]
        columns["sync_exit_seconds"][:, block] = enter + stay
        columns["gradient_allreduce_seconds"][:, block] = stay
    found = digest(acts, [columns], rank_blocks=[0] * 4 + [1] * 4)
    assert found.parts["waiting"].mean() < 0.01 * compute.mean()
    assert np.abs(found.lateness).max() < 0.02 * compute.mean()  # type: ignore[arg-type]


def test_a_rank_that_is_lost_does_not_matter_any_more() -> None:
    compute = noisy(7, STEPS, 8)
    columns = columns_of(compute)
    for name in columns:
        columns[name] = np.asarray(columns[name], float).copy()
        columns[name][50:, 3] = np.nan
    found = digest(actions_of(STEPS), [columns], rank_blocks=[0] * 8)
    assert np.isfinite(found.seconds).all() and found.lateness is not None
    assert np.isnan(found.lateness[50:, 3]).all() and np.isfinite(np.delete(found.lateness, 3, axis=1)).all()


@pytest.mark.parametrize(("rise", "count"), [(0.03, 0), (0.25, 10), (-0.25, 10)])
def test_drift_is_found_from_the_share_on_that_counts(rise: float, count: int) -> None:
    line = np.linspace(1, 1 + rise, STEPS)[:, None]
    found = [case_of(noisy(seed, STEPS, 4, 0.03) * line) for seed in range(10)]
    assert sum(named(case).count("drift") for case in found) == count


def test_a_change_at_once_is_named_with_its_step() -> None:
    compute = noisy(8, STEPS, 4)
    compute[60:] *= 1.3
    [finding] = findings(case_of(compute))
    assert finding.cause == "drift" and "from step 60 on" in finding.text


def test_what_comes_and_goes_is_no_drift() -> None:
    compute = noisy(9, STEPS, 4)
    compute[30:60] *= 1.3
    assert "drift" not in named(case_of(compute))
