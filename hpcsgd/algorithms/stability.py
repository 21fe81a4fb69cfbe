"""For which alpha synchronous model averaging is stable, and the alpha of a run (Crossbow 2019, section 3).

On a flat loss the mean gap e = mean(w) - z and the last move d = z - z_prev follow

    e' = (1 - alpha (k + 1)) e - mu d        d' = alpha k e + mu d

which contracts if and only if 0 < alpha < 2 (1 + mu) / (k + 1 + mu). With two levels, n learners of a block meet their
reference H_b times between two global averagings. On a flat loss that is one averaging with the alpha of
:func:`effective_alpha`, which the same bound is for.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import takewhile

from hpcsgd.config import AlgorithmConfig
from hpcsgd.errors import UsageError


def stability_bound(num_learners: int, central_momentum: float) -> float:
    """The smallest alpha at which ``num_learners`` learners and their central model no longer come together."""
    return 2 * (1 + central_momentum) / (num_learners + 1 + central_momentum)


def effective_alpha(alpha: float, block_learners: int, block_sync_period: int) -> float:
    """The alpha of one averaging that closes the gap of a block as ``block_sync_period`` averagings of it do."""
    meets = block_learners + 1
    return alpha if block_sync_period == 1 else (1 - (1 - alpha * meets) ** block_sync_period) / meets


def resolve_alpha(config: AlgorithmConfig, num_learners: int) -> float:
    """Alpha of ``num_learners`` learners: the recipe's, or 1/k.

    Raises:
        UsageError: it is not stable.
    """
    alpha = 1 / num_learners if config.alpha is None else config.alpha
    mu = config.resolved_central_momentum
    given = f"algorithm.alpha is {f'1/k = {alpha:g}' if config.alpha is None else f'{alpha:g}'}"
    if num_learners == 1 and mu == 0 and alpha == 1:
        raise UsageError(
            f"{given}, which lets the only learner and the central model swap places for ever: choose an alpha below "
            "1, more learners, or sma with central_momentum"
        )
    if alpha >= stability_bound(num_learners, mu):
        raise UsageError(
            f"{given}, outside of the stability bound {_bound_text(num_learners, mu)}: choose a smaller one, or leave "
            "it unset"
        )
    return alpha


def check_blocks(config: AlgorithmConfig, alpha: float, num_learners: int, block_learners: Iterable[int]) -> None:
    """See that what blocks of learners do between two global averagings is stable.

    Args:
        config: the recipe's section.
        alpha: of every averaging.
        num_learners: k, learners of all ranks.
        block_learners: learners of each block.

    Raises:
        UsageError: it is not.
    """
    period, mu = config.block_sync_period, config.resolved_central_momentum
    bound = stability_bound(num_learners, mu)
    for learners in sorted(set(block_learners)):
        if not _is_stable(alpha, learners, bound, period):
            longest = sum(1 for _ in takewhile(partial(_is_stable, alpha, learners, bound), range(1, period)))
            raise UsageError(
                f"algorithm.block_sync_period is {period}: with alpha {alpha:g}, a block of {learners} learners moves "
                f"as by one averaging with alpha {effective_alpha(alpha, learners, period):.6g}, outside of the "
                f"stability bound {_bound_text(num_learners, mu)}: choose a smaller alpha, or a block_sync_period of "
                f"{max(longest, 1)}"
            )


def _bound_text(num_learners: int, mu: float) -> str:
    """The bound, as messages give it."""
    bound = stability_bound(num_learners, mu)
    return f"2 (1 + mu) / (k + 1 + mu) = {bound:.6g} for k = {num_learners} learners and central momentum {mu:g}"


def _is_stable(alpha: float, learners: int, bound: float, period: int) -> bool:
    """Whether both levels are: the block's own gap does not grow, and its moves are within the bound."""
    grows = period > 1 and alpha * (learners + 1) > 2
    return not grows and effective_alpha(alpha, learners, period) < bound
