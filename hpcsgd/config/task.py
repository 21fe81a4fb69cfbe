"""What is learned of the data: the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hpcsgd.config.check import check_choice, check_values, free_field, is_import_path, require

LossName = Literal["cross_entropy", "squared_error"]


@dataclass(frozen=True)
class LossConfig:
    """What training makes small.

    Attributes:
        name: ``cross_entropy`` of classes, the ``squared_error`` of numbers; or an import path
            (``package.module.name``): a function of outputs and targets that gives one number a sample, or a sum and
            its weight; or a class whose objects are such functions.
        init_args: arguments of a loss by import path: further ones of the function, or those of the class.
        reduction: ``mean`` for a loss by import path that gives the mean over the samples of a batch, where all batches
            are equal; ``none`` for one that gives a number a sample, or sum and weight.
    """

    name: LossName | str = "cross_entropy"
    init_args: dict[str, Any] = free_field()
    reduction: Literal["none", "mean"] = "none"

    def __post_init__(self) -> None:
        check_values(self, "loss.")
        check_choice("loss.name", self.name, LossName)
        own = is_import_path(self.name)
        require(own or self.reduction == "none", "loss.reduction", self.reduction, f"none for {self.name}")
        require(own or not self.init_args, "loss.init_args", self.init_args, f"unset for {self.name}")


def check_metrics(metrics: dict[str, Any] | None) -> None:
    """See that each metric is an import path, or one with arguments."""
    for name, given in (metrics or {}).items():
        key = f"metrics.{name}"
        require(name.isidentifier() and len(name) <= 32, "metrics", name, "names of letters, digits and _, at most 32")
        require(name != "loss", "metrics", name, "other names than loss, which is measured always")
        path = given.get("class_path") if isinstance(given, dict) else given
        known = not isinstance(given, dict) or (
            given.keys() <= {"class_path", "init_args"} and isinstance(given.get("init_args", {}), dict)
        )
        ok = known and isinstance(path, str) and is_import_path(path)
        require(ok, key, given, "an import path, as package.module.name, or a mapping of class_path and init_args")
