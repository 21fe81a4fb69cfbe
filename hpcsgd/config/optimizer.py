"""What steps: momentum SGD, LARS, LAMB, or any optimizer of torch's kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hpcsgd.config.check import check_choice, check_values, free_field, is_import_path, require, used_with

OptimizerName = Literal["sgd", "lars", "lamb"]
WITH_MOMENTUM = ("sgd", "lars")
"""Those of the package that have a momentum."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Momentum SGD, LARS, LAMB, or any optimizer of torch's kind by its import path.

    Attributes:
        name: ``sgd``, momentum SGD; ``lars``, the same with a rate for each layer (You 2017); ``lamb``, Adam with one
            (You 2020), all with keys below; or the import path of a class of torch's optimizers, as
            ``torch.optim.AdamW``.
        init_args: arguments of an optimizer by import path, but for parameters and learning rate, which is that of
            ``learning_rate``. Its ``weight_decay`` is not for BatchNorm parameters and biases.
        clip_norm: largest norm of a gradient, which is scaled down to it: of the mean gradient of all ranks after its
            allreduce, or of a learner's own before a local step. Unset, none is.
        momentum: mu; 0 is plain SGD.
        nesterov: Nesterov's form of the update.
        weight_decay: lambda, added to the gradient as lambda*w, for ``lamb`` to Adam's step; not for BatchNorm
            parameters and biases.
        momentum_form: ``reference`` keeps the learning rate outside of the momentum, ``absorbed`` inside
            (Goyal, equations 9 and 10). That of You 2017 is ``absorbed`` without ``momentum_correction``.
        momentum_correction: scale the absorbed momentum by the ratio of learning rates when these change
            (Goyal, section 3); the reference form needs none.
        sign: go by the sign of the direction, momentum and weight decay included: the local steps of local sign SGD
            (Lin). For the reference form.
        trust_coefficient: of ``lars``: a layer's rate is the learning rate times this times |w| / (|g| + lambda |w|);
            for ``lamb`` it is that times |w| over the norm of Adam's step. BatchNorm parameters and biases have the
            learning rate as it is.
        max_trust_ratio: a layer's rate is at most so many times the learning rate. Unset, it may be any.
        betas: of ``lamb``: decay of the moments of the gradient.
        eps: of ``lamb``: added to the root of the second moment.
    """

    name: OptimizerName | str = "sgd"
    init_args: dict[str, Any] = free_field()
    clip_norm: float | None = None
    momentum: float = used_with("name", *WITH_MOMENTUM, default=0.9)
    nesterov: bool = used_with("name", *WITH_MOMENTUM, default=False)
    weight_decay: float = used_with("name", *WITH_MOMENTUM, "lamb", default=0.0)
    momentum_form: Literal["reference", "absorbed"] = used_with("name", *WITH_MOMENTUM, default="reference")
    momentum_correction: bool = used_with("momentum_form", "absorbed", default=True)
    sign: bool = used_with("momentum_form", "reference", default=False)
    trust_coefficient: float = used_with("name", "lars", default=0.001)
    max_trust_ratio: float | None = used_with("name", "lars", "lamb", default=None)
    betas: tuple[float, float] = used_with("name", "lamb", default=(0.9, 0.999))
    eps: float = used_with("name", "lamb", default=1e-6)

    def __post_init__(self) -> None:
        check_values(self, "optimizer.")
        check_choice("optimizer.name", self.name, OptimizerName)
        own = is_import_path(self.name)
        require(own or not self.init_args, "optimizer.init_args", self.init_args, f"unset for {self.name}")
        require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "in [0, 1)")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        require(self.momentum > 0 or not self.nesterov, "optimizer.nesterov", True, "false where momentum is 0")
        require(self.name == "sgd" or not self.sign, "optimizer.sign", True, f"left out with {self.name}")
        clip = self.clip_norm
        require(clip is None or clip > 0, "optimizer.clip_norm", clip, "positive")
        trust, largest = self.trust_coefficient, self.max_trust_ratio
        require(trust > 0, "optimizer.trust_coefficient", trust, "positive")
        require(largest is None or largest > 0, "optimizer.max_trust_ratio", largest, "positive")
        betas = self.betas
        sound = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
        require(sound, "optimizer.betas", betas, "two numbers in [0, 1)")
        require(self.eps > 0, "optimizer.eps", self.eps, "positive")
