"""States from checkpoints as this run would have kept them: those of older versions, and in other memory orders.

A parameter fills one stretch of a row, in the order that its convolutions want: on another device, or by another
recipe, that is another one. Whatever is as wide as a row lies in the same places: the optimizer's state, a central
model, an anchor and its momentum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hpcsgd.comm.flat import Slot
from hpcsgd.errors import UsageError, reason
from hpcsgd.optim.rows import PARAMETERS, Rows
from hpcsgd.optim.sgd import MOMENTUM
from hpcsgd.run.checkpoint import Checkpoint
from hpcsgd.run.parts import Parts

PLACES = "places"
"""The key of a state under which it says where its parameters lie; states of older versions have none."""


def as_own(parts: Parts, checkpoint: Checkpoint, rank: int) -> dict[str, Any]:
    """The state of ``rank`` as :func:`~hpcsgd.run.resume.capture` would make it here, whatever run made it.

    Raises:
        UsageError: it is damaged, or of another model.
    """
    state = _as_now(checkpoint, rank)
    with readable(checkpoint):
        # Before it was said, the order was never another than the network's own but where the recipe asked for that.
        unsaid_is_own = not parts.task.channels_last or parts.config.model.channels_last is True
        return in_order_of(parts.learners.rows, state, str(checkpoint.path), unsaid_is_own=unsaid_is_own)


def _as_now(checkpoint: Checkpoint, rank: int) -> dict[str, Any]:
    """The state of ``rank`` as :func:`~hpcsgd.run.resume.capture` makes it, also where an older version made it."""
    state = checkpoint.load(rank)
    with readable(checkpoint):
        if "state" in state:
            # Version 0.1 kept parameters and momentum in one tensor [m, 2 P], and knew one outer step.
            state["rows"] = dict(zip((PARAMETERS, MOMENTUM), state.pop("state").chunk(2, dim=1), strict=True))
            slow = state["algorithm"].pop("slow", None)
            if slow is not None:
                outer = {"momentum": slow["momentum"]}
                slow = {"anchor": slow["anchor"], "is_placed": slow["anchored"], "outer": outer}
            state["buffers"] = {str(j): {} for j in range(len(state["counts"]))}
            if "central" not in state["algorithm"]:
                state["algorithm"] |= {"averagings": 0, "anchored": slow}
        # Before precisions, no loss was scaled; before wires, all was sent in full.
        state["algorithm"] = {"loss_scale": None, "gradients": {}, "wire": {}} | state["algorithm"]
    return state


@contextmanager
def readable(checkpoint: Checkpoint) -> Iterator[None]:
    """Inside, a state that is not as a checkpoint of this version makes it is one that cannot be used.

    Raises:
        UsageError: the body failed over it.
    """
    try:
        yield
    except UsageError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UsageError(
            f"{checkpoint.path} cannot be taken up ({type(error).__name__}: {reason(error)}): it is of another model "
            "or of another version of hpcsgd"
        ) from error


def places_of(rows: Rows) -> list[dict[str, Any]]:
    """Where the parameters lie in a row, in plain values."""
    return [vars(slot) for slot in rows.slots]


def in_order_of(rows: Rows, state: dict[str, Any], where: str, *, unsaid_is_own: bool) -> dict[str, Any]:
    """``state`` with parameters, and what lies as they do, in the memory order of ``rows``.

    Args:
        rows: this run's.
        state: from a checkpoint.
        where: its place, for the message.
        unsaid_is_own: one that does not say its order has that of ``rows``; else each parameter's last axis is dense.

    Raises:
        UsageError: it is of parameters of other shapes.
    """
    own = rows.slots
    said = state.pop(PLACES, None)
    if said is not None:
        old = [Slot(**place) for place in said]
    else:
        old = own if unsaid_is_own else [_contiguous(slot) for slot in own]
    if [(slot.start, slot.shape) for slot in old] != [(slot.start, slot.shape) for slot in own]:
        raise UsageError(f"{where} is of another model: resume with the recipe that it was made with")
    moved = [(before, now) for before, now in zip(old, own, strict=True) if before.stride != now.stride]
    if moved:
        width = rows.parameters.shape[1]
        state |= {part: _moved(state[part], width, moved) for part in ("rows", "algorithm")}
    return state


def _contiguous(slot: Slot) -> Slot:
    """The same place, in the order of the axes."""
    stride = torch.empty(slot.shape, device="meta").stride()
    return Slot(slot.start, slot.numel, slot.shape, tuple(stride))


def _moved(value: Any, width: int, moved: Sequence[tuple[Slot, Slot]]) -> Any:
    """Nested dicts with the parameters in all tensors as wide as a row, [P] or [m, P], brought to other places."""
    if isinstance(value, dict):
        return {key: _moved(part, width, moved) for key, part in value.items()}
    if not (isinstance(value, Tensor) and value.dim() in (1, 2) and value.shape[-1] == width):
        return value
    result = value.clone(memory_format=torch.contiguous_format)
    for target, source in zip(result.view(-1, width), value.reshape(-1, width), strict=True):
        for before, now in moved:
            now.view(target).copy_(before.view(source))
    return result
