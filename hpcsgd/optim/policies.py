"""What becomes of an optimizer's state tensors at an averaging: pure functions of its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpcsgd.config import parse_policy
from hpcsgd.errors import UsageError, nearest

Policies = Mapping[str, tuple[str, int]]
"""By state tensor: ``local``, ``average`` or ``reset``, and every how many averagings."""


def policies_of(policy: str | Mapping[str, str], states: Sequence[str]) -> Policies:
    """The policy of each of ``states``: one for all, or by name, where the others are ``local``.

    Raises:
        UsageError: a state tensor is named that there is not.
    """
    if isinstance(policy, str):
        return {name: parse_policy(policy) for name in states}
    for name in policy:
        if name not in states:
            hint = nearest(name, states, f"it keeps {', '.join(states) or 'none'}")
            raise UsageError(
                f"algorithm.momentum_policy has {name}, which the optimizer keeps no state tensor for; {hint}"
            )
    return {name: parse_policy(policy.get(name, "local")) for name in states}


def averaged(policies: Policies, number: int) -> list[str]:
    """The state tensors that the averaging ``number``, from 1, averages with the parameters."""
    return [name for name, (kind, every) in policies.items() if kind == "average" and number % every == 0]


def reset(policies: Policies) -> list[str]:
    """The state tensors that every averaging puts back to zero."""
    return [name for name, (kind, _) in policies.items() if kind == "reset"]


def arranged(policies: Policies) -> tuple[str, ...]:
    """The names in the order in which they are to lie: what is averaged most often next to the parameters."""
    averages = {name: every for name, (kind, every) in policies.items() if kind == "average"}
    return tuple(sorted(policies, key=lambda name: averages.get(name, float("inf"))))
