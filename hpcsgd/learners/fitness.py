"""Which modules can be replicas, and what one consists of, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.parameter import is_lazy

from hpcsgd.errors import UsageError

if TYPE_CHECKING:
    from hpcsgd.learners.replica import Replica


def check_module(module: nn.Module) -> None:
    """See that the parameters of ``module`` can lie in one flat buffer and have dense gradients.

    Raises:
        UsageError: they cannot; names the parameter.
    """
    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise UsageError(
                f"the model's parameter {name} has no shape before its first pass (a lazy module): give its sizes, or "
                "put a batch through the model where it is made"
            )
        if parameter.is_complex():
            raise UsageError(f"the model's parameter {name} is complex: hold its real and imaginary parts apart")
    for name, part in module.named_modules():
        if getattr(part, "sparse", False) is True and isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
            weight = f"{name}.weight" if name else "weight"
            raise UsageError(
                f"the model's parameter {weight} has sparse gradients: make its embedding with sparse=False"
            )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise UsageError("the model has no parameter that is trained: all are frozen, or there are none")


def describe(replica: Replica, batch_norm_policy: str, buffer_policy: str) -> str:
    """What a replica consists of, in one line.

    Args:
        replica: one of the learners.
        batch_norm_policy: of its BatchNorm statistics at an averaging.
        buffer_policy: of its other float buffers.
    """
    return "; ".join(_clauses(replica, batch_norm_policy, buffer_policy))


def _clauses(replica: Replica, batch_norm_policy: str, buffer_policy: str) -> Iterator[str]:
    """The parts of the line."""
    module, own_buffers = replica.module, replica.buffers
    undecayed = sum(slot.numel for slot in replica.slots if slot.start < replica.decay_from)
    norms = [name for name, part in module.named_modules() if any(part is norm for norm in replica.norms)]
    policies = {
        f"BatchNorm statistics: {batch_norm_policy}": norms,
        f"float buffers: {buffer_policy}": list(own_buffers.tensors(floats=True)),
        "other buffers, of each learner": list(own_buffers.tensors(floats=False)),
    }
    own = dict(module.named_parameters())
    trained = sum(parameter.numel() for parameter in own.values() if parameter.requires_grad)
    frozen = sum(parameter.numel() for parameter in own.values() if not parameter.requires_grad)
    tied = sum(1 for _ in module.named_parameters(remove_duplicate=False)) - len(own)
    yield f"{trained:,} parameters"
    yield f"{undecayed:,} of them without weight decay"
    if tied:
        yield f"{tied} {'tensor' if tied == 1 else 'tensors'} tied to others"
    if frozen:
        yield f"{frozen:,} frozen"
    for what, names in policies.items():
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            yield f"{what} ({shown})"
