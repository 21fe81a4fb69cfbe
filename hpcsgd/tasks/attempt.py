"""One small batch through all of a task, so that what is wrong with it is said before anything is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpcsgd.config.imports import in_words
from hpcsgd.data.batches import Batch
from hpcsgd.data.trees import Tree, map_tree
from hpcsgd.errors import UsageError, is_out_of_memory
from hpcsgd.models import check_none_made
from hpcsgd.tasks.losses import one_each, sum_and_weight
from hpcsgd.tasks.task import Task

MOST_SAMPLES = 2


@dataclass(frozen=True)
class Attempt:
    """What came of it.

    Attributes:
        inputs, outputs, targets: their forms in words.
        num_samples: samples of the batch.
        loss: mean over them, or over their weight.
        is_weighted: the loss gives sum and weight.
        metrics: the value of each on this batch.
        unused: parameters that got no gradient.
        draws: the network draws from torch's global generators, other than by ``nn.Dropout``.
    """

    inputs: str
    outputs: str
    targets: str
    num_samples: int
    loss: float
    is_weighted: bool
    metrics: dict[str, float]
    unused: list[str]
    draws: bool = False


def attempt(task: Task, module: nn.Module, batch: Batch) -> Attempt | None:
    """Take the first samples of ``batch`` through forward pass, loss, backward pass and metrics.

    Args:
        task: what is learned.
        module: a network of ``task.new_module``, on the device and of the type of the batch; it is used up.
        batch: training samples.

    Returns:
        What came of it; None where the batch has no samples.

    Raises:
        UsageError: a part of the task fails, or gives something else than it must; says which part, and where.
    """
    own = next((part for learner in batch.learners() if len(learner) for part in learner.parts(MOST_SAMPLES)), None)
    if own is None:
        return None
    module.train()
    for part in module.modules():
        # It will have a stream of its own in each learner.
        if isinstance(part, nn.Dropout):
            part.eval()
    known = {id(parameter) for parameter in module.parameters()}
    # What a user's code draws must leave no trace in the training.
    with torch.random.fork_rng(devices=[]):
        before = _global_states(batch.device)
        with _part("the model's forward pass", task):
            outputs = task.forward(module, own.inputs)
        check_none_made(module, known)
        with _part("the loss", task):
            given = task.compute(task.loss, outputs, own.targets)
            both = sum_and_weight(given)
            total = both[0] if both is not None else one_each(given, len(own)).sum()
            weight = float(both[1].detach()) if both is not None else float(len(own))
            if not weight >= 0:
                raise ValueError(f"its weight is {weight:g}: it must be 0 or more")
            if not total.requires_grad:
                raise ValueError("it does not depend on any parameter")
        with _part("the backward pass", task):
            total.backward()
        draws = any(not torch.equal(a, b) for a, b in zip(before, _global_states(batch.device), strict=True))
        _check_gradients(module)
        with torch.no_grad():
            detached = map_tree(lambda tensor: tensor.detach(), outputs)
            metrics = {name: _measure(task, name, detached, own.targets) for name in task.metrics}
    unused = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    forms = (form(own.inputs), form(outputs), form(own.targets))
    return Attempt(*forms, len(own), float(total.detach() / weight), both is not None, metrics, unused, draws)


def _global_states(device: torch.device) -> list[Tensor]:
    """The states of torch's global generators that a network on ``device`` can draw from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def form(tree: Tree) -> str:
    """The form of a tree in words: ``float32 [2, 3, 8, 8]``, ``{x: ..., y: ...}``."""
    if isinstance(tree, Tensor):
        return f"{str(tree.dtype).removeprefix('torch.')} {list(tree.shape)}"
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key}: {form(part)}" for key, part in tree.items()) + "}"
    if isinstance(tree, list | tuple):
        return "(" + ", ".join(map(form, tree)) + ")"
    return type(tree).__name__


def _measure(task: Task, name: str, outputs: Tree, targets: Tree) -> float:
    """One metric of the batch."""
    with _part(f"the metric {name}", task):
        counts = task.compute(task.metrics[name].counts, outputs, targets)
        if not isinstance(counts, Tensor) or counts.dim() != 1:
            raise ValueError(f"its counts are {form(counts)}: they must be a tensor [k], of one axis")
        value = task.metrics[name].value(counts.double().tolist())
        if not isinstance(value, float | int):
            raise TypeError(f"its value is of type {type(value).__name__}: it must be a number")
    return float(value)


def _check_gradients(module: nn.Module) -> None:
    """Refuse gradients that no flat buffer can hold."""
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and parameter.grad.layout is not torch.strided:
            raise UsageError(
                f"the gradient of the parameter {name} is sparse, which hpcsgd cannot sum over ranks: build its layer "
                "with sparse=False"
            )


@contextmanager
def _part(what: str, task: Task) -> Iterator[None]:
    """Tell what goes wrong inside as that of a part of the task."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # a user's code may fail in any way
        if is_out_of_memory(error):
            raise
        where = f" in precision {task.autocast.name}" if task.autocast is not None else ""
        raise UsageError(f"{what} fails{where}: {in_words(error)}") from error
