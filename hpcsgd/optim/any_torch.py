"""Any ``torch.optim`` optimizer as one of rows: one object a learner, on views of its row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpcsgd.optim.base import Values
from hpcsgd.optim.probe import Kind
from hpcsgd.optim.rows import Rows

PLAIN = (bool, int, float, str, tuple, list, Tensor, type(None))
"""What a checkpoint can hold of a group's settings."""


class TorchRows:
    """A torch optimizer a learner, whose state tensors are rows as soon as they are there.

    An optimizer that treats each element by itself works on two tensors: the stretch of the row without weight decay,
    and that with it. Any other gets the parameters one by one, in two groups.
    """

    def __init__(self, kind: Kind, rows: Rows) -> None:
        """
        Args:
            kind: what is known of the optimizer, and how to make it.
            rows: the learners, with the states of the optimizer; changed in place.
        """
        self.rows = rows
        self._kind = kind
        self.states: tuple[str, ...] = self._kind.states
        self._learners = [_Learner(self._kind, rows, j) for j in range(len(rows))]

    @torch.no_grad()
    def step(self, count: int, rate: Values) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        for learner, number in zip(self._learners[:count], _numbers(rate, len(self.rows)), strict=False):
            learner.step(number)

    @torch.no_grad()
    def reset(self, states: Sequence[str]) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        for name in states:
            self.rows[name].zero_()
        if states and set(states) == set(self.states):
            for learner in self._learners:
                learner.forget()

    def keep(self, rows: Sequence[int]) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        kept = [self._learners[row].state_dict() for row in rows]
        self._learners = self._learners[: len(rows)]
        for learner, state in zip(self._learners, kept, strict=True):
            learner.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """What the objects remember beside the rows, by learner: numbers of steps, and tensors of other shapes."""
        return {str(j): learner.state_dict() for j, learner in enumerate(self._learners)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        for j, learner in enumerate(self._learners):
            learner.load_state_dict(state[str(j)])

    def load_first(self, state: dict[str, Any]) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        for learner in self._learners:
            learner.load_state_dict(state["0"])


class _Learner:
    """The optimizer of one row."""

    def __init__(self, kind: Kind, rows: Rows, row: int) -> None:
        self._kind = kind
        plain, decayed = _tensors(rows, row, rows.parameters, kind.element_wise)
        self._parameters = [nn.Parameter(tensor) for tensor in (*plain, *decayed)]
        gradients = _tensors(rows, row, rows.gradients, kind.element_wise)
        for parameter, gradient in zip(self._parameters, (g for part in gradients for g in part), strict=True):
            parameter.grad = gradient
        self._homes: list[dict[str, Tensor]] = [{} for _ in self._parameters]
        for name in kind.states:
            parts = _tensors(rows, row, rows[name], kind.element_wise)
            for home, view in zip(self._homes, (view for part in parts for view in part), strict=True):
                home[name] = view
        self.optimizer = kind.make(self._parameters[: len(plain)], self._parameters[len(plain) :])
        self._is_settled = False

    def step(self, rate: float) -> None:
        """One update."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if not self._is_settled:
            self._settle()
            # torch's own go on to change their state in place; others may make it anew.
            self._is_settled = self._kind.element_wise

    def _settle(self) -> None:
        """Move state tensors that are not in the rows into them."""
        for parameter, home in zip(self._parameters, self._homes, strict=True):
            state = self.optimizer.state[parameter]
            for name, view in home.items():
                own = state.get(name)
                if isinstance(own, Tensor) and own.data_ptr() != view.data_ptr() and own.shape == view.shape:
                    view.copy_(own)
                    state[name] = view

    def forget(self) -> None:
        """Be as before the first step."""
        self.optimizer.state.clear()
        self._is_settled = False

    def state_dict(self) -> dict[str, Any]:
        """By parameter, what is not in the rows, and which state tensors there are; and the settings by group."""
        groups = self.optimizer.param_groups
        state: dict[str, Any] = {}
        for i, (parameter, home) in enumerate(zip(self._parameters, self._homes, strict=True)):
            own = self.optimizer.state.get(parameter, {})
            rest = {name: value for name, value in own.items() if name not in home}
            state[str(i)] = {"in_rows": [name for name in own if name in home], "rest": rest}
        settings = {
            str(i): {name: v for name, v in group.items() if name != "params" and isinstance(v, PLAIN)}
            for i, group in enumerate(groups)
        }
        return {"state": state, "groups": settings}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave; what is in the rows is there already."""
        self.forget()
        groups = self.optimizer.param_groups
        for i, group in enumerate(groups):
            group.update(state["groups"][str(i)])
        group_of = {id(parameter): group for group in groups for parameter in group["params"]}
        for i, (parameter, home) in enumerate(zip(self._parameters, self._homes, strict=True)):
            saved, group = state["state"][str(i)], group_of[id(parameter)]
            own = {name: home[name] for name in saved["in_rows"]}
            own |= {name: _moved(name, value, parameter, group) for name, value in saved["rest"].items()}
            if own:
                self.optimizer.state[parameter] = own


def _moved(name: str, value: Any, parameter: Tensor, group: dict[str, Any]) -> Any:
    """A copy of a part of the state where the optimizer wants it: torch's keep the number of steps on the host."""
    if not isinstance(value, Tensor):
        return value
    on_host = name == "step" and not (group.get("fused") or group.get("capturable"))
    return value.clone() if on_host else value.clone().to(parameter.device)


def _tensors(rows: Rows, row: int, flat: Tensor, whole: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Row ``row`` of ``flat`` [m, P] as views, without weight decay and with it: whole stretches, or parameters."""
    if whole:
        parts = flat[row, : rows.decay_from], flat[row, rows.decay_from :]
        return [part for part in parts[:1] if part.numel()], [part for part in parts[1:] if part.numel()]
    plain = [slot.view(flat[row]) for slot in rows.slots if slot.start < rows.decay_from]
    return plain, [slot.view(flat[row]) for slot in rows.slots if slot.start >= rows.decay_from]


def _numbers(values: Values, count: int) -> Iterable[float]:
    """One number a learner."""
    if isinstance(values, Tensor):
        return [float(value) for value in values.flatten().tolist()]
    return [float(values)] * count if isinstance(values, (int, float)) else [float(value) for value in values]
