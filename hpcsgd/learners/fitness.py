"""Which modules can be replicas."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

from hpcsgd.errors import UsageError


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
    _check_buffers(module)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise UsageError("the model has no parameter that is trained: all are frozen, or there are none")


def _check_buffers(module: nn.Module) -> None:
    """Refuse buffers in the memory of a parameter, which is elsewhere once the parameters lie in one flat buffer.

    Raises:
        UsageError: there is one; names both.
    """
    owners = {parameter.untyped_storage().data_ptr(): name for name, parameter in module.named_parameters()}
    for name, buffer in module.named_buffers():
        owner = owners.get(buffer.untyped_storage().data_ptr()) if buffer.numel() else None
        if owner is not None:
            raise UsageError(
                f"the model's buffer {name} lies in the memory of its parameter {owner}, which moves at the "
                "start: make a copy (clone), or take it of the parameter in the forward pass"
            )
