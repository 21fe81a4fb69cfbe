"""Whether images and the weights of convolutions lie in channels-last memory order."""

from __future__ import annotations

import torch

from hpcsgd.config import RunConfig
from hpcsgd.data.store import in_memory_order
from hpcsgd.data.trees import Tree
from hpcsgd.tasks.task import Task


def is_channels_last(config: RunConfig, task: Task, device: torch.device, example: Tree | None) -> bool:
    """What ``model.channels_last`` says, or what ``auto`` comes to.

    Tensor cores want operands in this order, and cuDNN brings others to it at each call; IEEE's float32 is not theirs,
    and MIOpen takes other orders as they are. A network may not take it at all: ``view`` of what a convolution gives
    fails then. So a sample is tried.

    Args:
        config: the run.
        task: its task, without a precision yet.
        device: where it trains.
        example: the inputs of a sample, [1, ...], on the CPU; None: it is not known, and nothing is tried.
    """
    asked = config.model.channels_last
    if asked != "auto":
        return asked
    if device.type != "cuda" or torch.version.hip or config.precision == "float32" or example is None:
        return False
    module = task.new_module(config.seed).eval()
    if all(parameter.dim() != 4 for parameter in module.parameters()):
        return False
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        with torch.no_grad():
            task.forward(module, in_memory_order(example, channels_last=True))
    except Exception:  # noqa: BLE001
        # What else is wrong with a user's network is said where a batch is tried.
        return False
    return True
