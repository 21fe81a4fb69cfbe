"""From an ordinary module to the list of steps that the fused engine takes for all learners of a stack."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hpcsgd.learners.dropout import StreamDropout
from hpcsgd.learners.engines import ops
from hpcsgd.learners.engines.base import NotPossibleError
from hpcsgd.learners.engines.ops import Form, Weights
from hpcsgd.learners.stack import ReplicaStack

POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
RELUS = (F.relu, torch.relu, "relu")
ANY_FORM = (*RELUS, torch.relu_)
IMAGE_FUNCTIONS = (F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, torch.nn.functional.avg_pool2d)
ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")


@dataclass
class Step:
    """``values[result] = function(values[inputs])``; then the values in ``last`` are needed no more."""

    function: Callable[..., Tensor]
    inputs: tuple[int, ...]
    result: int
    last: tuple[int, ...] = ()


@dataclass
class Program:
    """Steps; value 0 is the input, the last step's result the logits [m, n, classes]."""

    copies: ops.Copies
    steps: list[Step] = field(default_factory=list)
    num_values: int = 1
    anchor: Tensor = field(default_factory=lambda: torch.zeros((), requires_grad=True))

    def __call__(self, batches: Tensor) -> Tensor:
        """Batches [m, n, C, H, W] to logits [m, n, classes]."""
        with torch.no_grad():
            self.copies.take()
        values: list[Any] = [None] * self.num_values
        values[0] = batches
        for step in self.steps:
            values[step.result] = step.function(*[values[i] for i in step.inputs])
            for i in step.last:
                values[i] = None
        result: Tensor = values[self.steps[-1].result]
        return result

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss``, a number made of the logits, to the stack's, and keep the statistics."""
        gradients = torch.autograd.grad(loss, [*self.copies.leaves, self.anchor], allow_unused=True)
        with torch.no_grad():
            self.copies.add_gradients([gradient for gradient in gradients[:-1] if gradient is not None])
            self.copies.give_statistics()


class _Tracer(fx.Tracer):
    """Traces into everything but torch's layers and ours."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, StreamDropout) or super().is_leaf_module(m, module_qualified_name)


def convert(stack: ReplicaStack, order: torch.memory_format) -> Program:
    """The passes of all learners of ``stack`` as one program, for filters in ``order``.

    Raises:
        NotPossibleError: the model has a part that has no fused form; its path and type are named.
    """
    try:
        graph = _Tracer().trace(stack.module)
    except Exception as error:  # whatever the model's own code does with a symbol
        kind = type(stack.module).__name__
        raise NotPossibleError(f"the fused engine cannot follow the forward pass of {kind}: {error}") from error
    converter = _Converter(stack, Program(ops.Copies(order)))
    for node in graph.nodes:
        converter.add(node)
    return converter.finish()


class _Converter:
    """Goes through the graph and keeps the place and the form of each value."""

    def __init__(self, stack: ReplicaStack, program: Program) -> None:
        self.stack, self.m = stack, len(stack)
        first = stack.replicas[0]
        self.slots = {id(p): slot for p, slot in zip(first.trainable, first.slots, strict=True)}
        self.norms = {id(norm): slot for norm, slot in zip(first.norms, first.norm_slots, strict=True)}
        self.program = program
        self.copies = program.copies
        self.places: dict[fx.Node, tuple[int, Form]] = {}
        self.norms_seen: list[str] = []

    def finish(self) -> Program:
        """Find out which values are needed until when."""
        steps = self.program.steps
        seen = {steps[-1].result}
        for step in reversed(steps):
            step.last = tuple(i for i in {*step.inputs} if i not in seen)
            seen.update(step.inputs)
        return self.program

    def add(self, node: fx.Node) -> None:
        """Add the steps of one node."""
        if node.op == "placeholder":
            self.places[node] = (0, Form.BATCHES)
        elif node.op == "output":
            assert isinstance(node.args[0], fx.Node)
            if self.places[node.args[0]][1] is not Form.FEATURES:
                raise self._refusal(node, "an output that is not [n, classes]")
        elif node.op == "call_module":
            self._module(node, self.stack.module.get_submodule(str(node.target)))
        elif node.op in ("call_function", "call_method"):
            self._function(node)
        else:
            raise self._refusal(node, node.op)

    def _module(self, node: fx.Node, layer: nn.Module) -> None:
        """A layer of torch's."""
        if isinstance(layer, nn.Linear):
            weight, bias = self._weights(node, layer.weight), self._bias(node, layer.bias)
            self._emit(node, ops.Linear(weight, bias, self.program.anchor), (Form.FEATURES,), Form.FEATURES)
        elif isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
            weight, bias = self._weights(node, layer.weight), self._bias(node, layer.bias)
            dense = None if bias is None else self.copies.weights(bias)
            convolution = ops.Convolution(layer, self.copies.weights(weight), dense, self.m)
            self._emit(node, convolution, (Form.IMAGES,), Form.IMAGES)
        elif isinstance(layer, nn.BatchNorm2d) and id(layer) in self.norms and layer.momentum is not None:
            self._norm(node, layer)
        elif isinstance(layer, (nn.ReLU, nn.Identity)):
            form = self._form(node.args[0])
            self._emit(node, layer.forward, (form,), form)
        elif isinstance(layer, POOLS) and not getattr(layer, "return_indices", False):
            self._emit(node, layer.forward, (Form.IMAGES,), Form.IMAGES)
        elif isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
            self._flatten(node)
        elif isinstance(layer, StreamDropout):
            form = Form.FEATURES if self._form(node.args[0]) is Form.FEATURES else Form.IMAGES
            layers = [r.module.get_submodule(str(node.target)) for r in self.stack.replicas]
            self._emit(node, ops.Dropout([x for x in layers if isinstance(x, StreamDropout)], form), (form,), form)
        else:
            raise self._refusal(node, type(layer).__name__)

    def _norm(self, node: fx.Node, layer: _BatchNorm) -> None:
        """BatchNorm, once a pass: so its count of batches is that of passes."""
        if str(node.target) in self.norms_seen or layer.weight is None:
            raise self._refusal(node, "BatchNorm2d that is used twice or has no parameters")
        self.norms_seen.append(str(node.target))
        half = self.stack.statistics.shape[1] // 2
        slot = self.norms[id(layer)]
        means, variances = self.stack.statistics[:, :half], self.stack.statistics[:, half:]
        mean, variance = self.stack.stacked(slot, means), self.stack.stacked(slot, variances)
        scale, shift = (self.copies.weights(self._weights(node, part)) for part in (layer.weight, layer.bias))
        mean, variance = self.copies.statistics(mean), self.copies.statistics(variance)
        self._emit(node, ops.BatchNorm(layer, self.copies, scale, shift, mean, variance), (Form.IMAGES,), Form.IMAGES)

    def _function(self, node: fx.Node) -> None:
        """A function or a method of tensors."""
        target, args = node.target, node.args
        if target in RELUS:
            form, inplace = self._form(args[0]), bool(node.kwargs.get("inplace", False))
            self._emit(node, lambda x: F.relu(x, inplace=inplace), (form,), form)
        elif target in ADDITIONS and len(args) == 2 and not node.kwargs and isinstance(args[1], fx.Node):
            form = Form.FEATURES if self._form(args[0]) is Form.FEATURES else Form.IMAGES
            self._emit(node, torch.add, (form, form), form, args[:2])
        elif target in IMAGE_FUNCTIONS and callable(target):
            function: Callable[..., Tensor] = target
            rest, names = args[1:], dict(node.kwargs)
            self._emit(node, lambda x: function(x, *rest, **names), (Form.IMAGES,), Form.IMAGES)
        elif target in (torch.flatten, "flatten") and args[1:] == (1,) and not node.kwargs:
            self._flatten(node)
        elif target in (torch.mean, "mean") and _axes(node) in ((2, 3), (-2, -1), [2, 3], [-2, -1]):
            self._emit(node, lambda x: ops.as_features(x.mean(dim=(2, 3)), self.m), (Form.IMAGES,), Form.FEATURES)
        elif target is operator.getitem and _keeps_channels(args[1]):
            index = args[1]
            self._emit(node, lambda x: x[index], (Form.IMAGES,), Form.IMAGES)
        elif target is F.pad and node.kwargs.get("mode", "constant") == "constant" and len(args) == 2:
            pads, value = args[1], node.kwargs.get("value") or 0.0
            self._emit(node, lambda x: ops.pad(x, pads, value, self.m), (Form.IMAGES,), Form.IMAGES)  # type: ignore[arg-type]
        elif target is torch.cat and (args[1:] or (node.kwargs.get("dim"),)) == (1,) and isinstance(args[0], Sequence):
            parts = tuple(args[0])
            forms = (Form.IMAGES,) * len(parts)
            self._emit(node, lambda *x: ops.concatenate(x, self.m), forms, Form.IMAGES, parts)
        else:
            raise self._refusal(node, str(getattr(target, "__name__", target)))

    def _flatten(self, node: fx.Node) -> None:
        """The axes of an image as one."""
        form = self._form(node.args[0])
        if form is Form.BATCHES:
            self._emit(node, lambda x: x.flatten(2), (form,), Form.FEATURES)
        elif form is Form.IMAGES:
            self._emit(node, lambda x: ops.as_features(x, self.m), (form,), Form.FEATURES)
        else:
            self._emit(node, lambda x: x, (form,), form)

    def _emit(
        self,
        node: fx.Node,
        function: Callable[..., Tensor],
        wanted: tuple[Form, ...],
        form: Form,
        inputs: Sequence[Any] | None = None,
    ) -> None:
        """Add a step whose inputs have the forms ``wanted``."""
        places = []
        for value, want in zip(inputs if inputs is not None else node.args[:1], wanted, strict=True):
            if not isinstance(value, fx.Node):
                raise self._refusal(node, f"{node.target} of {value!r}")
            place, have = self.places[value]
            if have is Form.BATCHES and want is Form.IMAGES:
                place = self._step(ops.as_images, (place,))
                self.places[value] = (place, want)
            elif have is not want:
                raise self._refusal(node, f"{node.target} of {have.value}")
            places.append(place)
        self.places[node] = (self._step(function, tuple(places)), form)

    def _step(self, function: Callable[..., Tensor], inputs: tuple[int, ...]) -> int:
        result = self.program.num_values
        self.program.steps.append(Step(function, inputs, result))
        self.program.num_values += 1
        return result

    def _form(self, value: Any) -> Form:
        return self.places[value][1]

    def _weights(self, node: fx.Node, parameter: Tensor) -> Weights:
        """A parameter of all learners."""
        if id(parameter) not in self.slots:
            raise self._refusal(node, "a layer with frozen parameters")
        slot, stack = self.slots[id(parameter)], self.stack
        return Weights(stack.stacked(slot, stack.parameters), stack.stacked(slot, stack.gradients))

    def _bias(self, node: fx.Node, parameter: Tensor | None) -> Weights | None:
        return None if parameter is None else self._weights(node, parameter)

    def _refusal(self, node: fx.Node, what: str) -> NotPossibleError:
        """Says where in the model the part stands."""
        stack = node.meta.get("nn_module_stack") or getattr(node, "nn_module_stack", None) or {}
        path = str(node.target) if node.op == "call_module" else ".".join(list(stack)[-1:])
        where = f"at {path}" if path else "in the model's forward pass"
        return NotPossibleError(f"the fused engine has no form of {what} {where}: choose the engine loop")


def _axes(node: fx.Node) -> Any:
    """The axes of a mean; None where it keeps them."""
    if node.kwargs.get("keepdim") or len(node.args) > 2:
        return None
    return node.args[1] if len(node.args) == 2 else node.kwargs.get("dim")


def _keeps_channels(index: Any) -> bool:
    """Whether an index takes all images and channels."""
    return (
        isinstance(index, tuple)
        and len(index) == 4
        and all(isinstance(part, slice) for part in index)
        and (index[:2] == (slice(None), slice(None)))
    )
