"""What a replica consists of, in words."""

from __future__ import annotations

from collections.abc import Iterator

from hpcsgd.learners.replica import Replica


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
