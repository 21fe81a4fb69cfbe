"""What becomes of state tensors at an averaging."""

from __future__ import annotations

from typing import Any

import pytest

from hpcsgd.config import AlgorithmConfig
from hpcsgd.errors import UsageError
from hpcsgd.optim.policies import arranged, averaged, policies_of, reset

ADAM = ("exp_avg", "exp_avg_sq")


def test_one_policy_is_for_all_states() -> None:
    assert averaged(policies_of("average", ADAM), 1) == list(ADAM)
    assert reset(policies_of("reset", ADAM)) == list(ADAM)
    assert averaged(policies_of("local", ADAM), 1) == reset(policies_of("local", ADAM)) == []


def test_every_nth_averaging() -> None:
    policies = policies_of({"exp_avg": "average:2", "exp_avg_sq": "average:3"}, ADAM)
    assert [averaged(policies, number) for number in range(1, 7)] == [
        [],
        ["exp_avg"],
        ["exp_avg_sq"],
        ["exp_avg"],
        [],
        ["exp_avg", "exp_avg_sq"],
    ]


def test_what_is_not_named_is_local() -> None:
    policies = policies_of({"exp_avg_sq": "reset"}, ADAM)
    assert averaged(policies, 1) == [] and reset(policies) == ["exp_avg_sq"]


def test_what_is_averaged_most_often_lies_next_to_the_parameters() -> None:
    states = ("a", "b", "c", "d")
    policies = policies_of({"b": "average:4", "c": "reset", "d": "average"}, states)
    assert arranged(policies) == ("d", "b", "a", "c")
    assert arranged(policies_of("average", states)) == states


def test_a_state_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="exp_avgs, .*no state tensor for; did you mean exp_avg"):
        policies_of({"exp_avgs": "average"}, ADAM)
    with pytest.raises(UsageError, match="it keeps none"):
        policies_of({"momentum": "average"}, ())


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("averag", "it must be one of local, average, average:N, reset.*did you mean average"),
        ("average:0", "momentum_policy is 'average:0'"),
        ("local:2", "momentum_policy is 'local:2'"),
        ({"exp_avg": "global"}, "algorithm.momentum_policy.exp_avg is 'global'"),
    ],
)
def test_a_policy_that_is_none_is_refused(policy: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AlgorithmConfig(name="local_sgd", momentum_policy=policy)
