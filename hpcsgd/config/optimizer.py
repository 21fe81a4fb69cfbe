"""What steps: momentum SGD, or any optimizer of torch's kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hpcsgd.config.check import check_choice, check_values, free_field, is_import_path, require, used_with


@dataclass(frozen=True)
class OptimizerConfig:
    """Momentum SGD, or any optimizer of torch's kind by its import path.

    Attributes:
        name: ``sgd``, momentum SGD with the keys below; or the import path of a class of torch's optimizers, as
            ``torch.optim.AdamW``.
        init_args: arguments of an optimizer by import path, but for parameters and learning rate, which is that of
            ``learning_rate``. Its ``weight_decay`` is not for BatchNorm parameters and biases.
        clip_norm: largest norm of a gradient, which is scaled down to it: of the mean gradient of all ranks after its
            allreduce, or of a learner's own before a local step. Unset, none is.
        momentum: mu; 0 is plain SGD.
        nesterov: Nesterov's form of the update.
        weight_decay: lambda, added to the gradient as lambda*w; not for BatchNorm parameters and biases.
        momentum_form: ``reference`` keeps the learning rate outside of the momentum, ``absorbed`` inside
            (Goyal, equations 9 and 10).
        momentum_correction: scale the absorbed momentum by the ratio of learning rates when these change
            (Goyal, section 3); the reference form needs none.
        sign: go by the sign of the direction, momentum and weight decay included: the local steps of local sign SGD
            (Lin). For the reference form.
    """

    name: Literal["sgd"] | str = "sgd"
    init_args: dict[str, Any] = free_field()
    clip_norm: float | None = None
    momentum: float = used_with("name", "sgd", default=0.9)
    nesterov: bool = used_with("name", "sgd", default=False)
    weight_decay: float = used_with("name", "sgd", default=0.0)
    momentum_form: Literal["reference", "absorbed"] = used_with("name", "sgd", default="reference")
    momentum_correction: bool = used_with("momentum_form", "absorbed", default=True)
    sign: bool = used_with("momentum_form", "reference", default=False)

    def __post_init__(self) -> None:
        check_values(self, "optimizer.")
        check_choice("optimizer.name", self.name, Literal["sgd"])
        own = is_import_path(self.name)
        require(own or not self.init_args, "optimizer.init_args", self.init_args, f"unset for {self.name}")
        require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "in [0, 1)")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        require(self.momentum > 0 or not self.nesterov, "optimizer.nesterov", True, "false where momentum is 0")
        require(not own or not self.sign, "optimizer.sign", True, "left out with an optimizer by import path")
        clip = self.clip_norm
        require(clip is None or clip > 0, "optimizer.clip_norm", clip, "positive")
