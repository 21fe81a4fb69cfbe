"""How H, the local steps between two averagings, goes over a run, as a recipe says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpcsgd.config.check import check_values, require, used_with

WARM_UPS = ("linear", "doubling")


@dataclass(frozen=True)
class PeriodScheduleConfig:
    """H over the run: it changes right after an averaging only, and alike on all ranks.

    Attributes:
        kind: ``constant``, H is ``sync_period``; ``linear`` and ``doubling``, from 1 to that over the first
            ``warmup_epochs`` of local steps (Lin, appendix); ``staged``, doubled at each drop of the learning rate
            (STL-SGD); ``power``, max(``sync_period``, floor((alpha / rate)^power)) (QSR, where power is 2);
            ``divergence``, halved after a global averaging of replicas that were further apart than ``target``,
            doubled up to ``largest`` where nearer than half of it. All but ``constant`` end with a global averaging
            after the last step; in ``hpcsgd.session``, which does not know it, they do not.
        warmup_epochs: length of ``linear`` and ``doubling``.
        alpha: the learning rate at which ``power`` would have H = 1.
        power: its exponent.
        warmup_period: H of ``power`` while the learning rate warms up; unset, that of the rate after the warm-up.
        target: largest distance of the replicas from their mean (root mean square), over the norm of the mean.
        largest: largest H of ``divergence``, which begins with ``sync_period``.
    """

    kind: Literal["constant", "linear", "doubling", "staged", "power", "divergence"] = "constant"
    warmup_epochs: float = used_with("kind", *WARM_UPS, default=5.0)
    alpha: float | None = used_with("kind", "power", default=None)
    power: float = used_with("kind", "power", default=2.0)
    warmup_period: int | None = used_with("kind", "power", default=None)
    target: float | None = used_with("kind", "divergence", default=None)
    largest: int = used_with("kind", "divergence", default=1024)

    def __post_init__(self) -> None:
        key = "algorithm.period_schedule"
        check_values(self, f"{key}.")
        alpha, target, first = self.alpha, self.target, self.warmup_period
        if self.kind == "power":
            require(alpha is not None and alpha > 0, f"{key}.alpha", alpha, "positive, for kind power")
        if self.kind == "divergence":
            require(target is not None and target > 0, f"{key}.target", target, "positive, for kind divergence")
        require(self.warmup_epochs > 0, f"{key}.warmup_epochs", self.warmup_epochs, "positive")
        require(0 < self.power <= 10, f"{key}.power", self.power, "positive, and at most 10")
        require(first is None or first >= 1, f"{key}.warmup_period", first, "1 or more")
        require(self.largest >= 1, f"{key}.largest", self.largest, "1 or more")
