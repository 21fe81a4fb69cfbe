"""The buffers of a module that are not BatchNorm statistics: float ones may be averaged, others are each learner's."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn


class OwnBuffers:
    """The buffers of one replica but for those of its BatchNorm layers.

    They are looked up by their place each time: a module may put another tensor there.

    Attributes:
        names: of all of them.
    """

    def __init__(self, module: nn.Module, without: Collection[nn.Module]) -> None:
        """Those of ``module``'s parts that are not in ``without``."""
        left_out = {id(part) for part in without}
        self._places: dict[str, tuple[nn.Module, str]] = {}
        seen: set[int] = set()
        for prefix, part in module.named_modules():
            for name, value in part.named_buffers(recurse=False):
                if id(part) not in left_out and id(value) not in seen:
                    seen.add(id(value))
                    self._places[f"{prefix}.{name}" if prefix else name] = (part, name)
        self.names = list(self._places)
        self.remember()

    def remember(self) -> None:
        """What float buffers hold now is what they began with."""
        self._first = {name: value.clone() for name, value in self.tensors(floats=True).items()}

    def tensors(self, *, floats: bool) -> dict[str, Tensor]:
        """The float buffers by name, or the others; the tensors themselves."""
        found = {name: part._buffers[own] for name, (part, own) in self._places.items()}
        return {n: value for n, value in found.items() if value is not None and value.is_floating_point() == floats}

    def changed(self) -> list[bool]:
        """For each float buffer, whether it is not what it began with: a table of constants stays as it is."""
        return [not torch.equal(value, self._first[name]) for name, value in self.tensors(floats=True).items()]

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all of them."""
        both = self.tensors(floats=True) | self.tensors(floats=False)
        return {name: value.clone() for name, value in both.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up the state that :meth:`state_dict` gave."""
        for name, value in (self.tensors(floats=True) | self.tensors(floats=False)).items():
            value.copy_(state[name])
