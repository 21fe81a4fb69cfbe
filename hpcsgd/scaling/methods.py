"""The algorithms that are predicted, as users write them, and what each step of them synchronises."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hpcsgd.errors import UsageError, nearest

Action = Literal["none", "gradient", "block", "world"]

NAMES = ("sync_sgd", "local_sgd", "post_local_sgd", "hierarchical_local_sgd", "diloco", "sma", "ea_sgd")
WIRES = {"full": 1.0, "float32": 1.0, "bfloat16": 0.5, "float16": 0.5, "int8": 0.25, "sign": 1 / 32, "ef_sign": 1 / 32}
"""What is sent of an averaging: as a part of the parameters' bytes."""
GATHERED = ("sign", "ef_sign")
"""Wires whose messages go to everybody; those of others are summed in parts."""

WORDS = re.compile(r"(?P<name>\w+?)(?::(?P<period>\d+)(?:x(?P<blocks>\d+))?)?(?P<more>(?:\+[\w=.]+)*)", re.ASCII)
FORM = "write NAME, NAME:H or NAME:HxB, with +late=Q and +WIRE after it, as in local_sgd:16+late=2"


@dataclass(frozen=True)
class Method:
    """An algorithm.

    Attributes:
        name: of the recipe's ``algorithm.name``.
        period: H, steps between averagings.
        block_period: how many of them end with one of all ranks; the others are of a block.
        late: steps that an averaging of all ranks may go on beside the training.
        wire: what it sends.
        local_start: the first step that is local; before, gradients are averaged. Infinite: none is.
    """

    name: str
    period: int = 1
    block_period: int = 1
    late: int = 0
    wire: str = "full"
    local_start: float = 0

    @property
    def late_steps(self) -> int:
        """Steps until an averaging is waited for: it ends before the next begins."""
        return min(self.late, self.period - 1) if self.name not in ("sma", "ea_sgd") else min(self.late, self.period)

    @property
    def round(self) -> int:
        """Steps from one averaging of all ranks to the next."""
        return self.period * self.block_period

    def action(self, step: int) -> Action:
        """What a step synchronises."""
        if step < self.local_start:
            return "gradient"
        number, since = divmod(step - int(self.local_start), self.period)
        if since < self.period - 1:
            return "none"
        return "block" if (number + 1) % self.block_period else "world"

    @property
    def text(self) -> str:
        """As users write it."""
        periods = f":{self.period}" if self.name != "sync_sgd" else ""
        periods += f"x{self.block_period}" if self.block_period > 1 else ""
        late = f"+late={self.late}" if self.late else ""
        return f"{self.name}{periods}{late}{f'+{self.wire}' if self.wire != 'full' else ''}"

    def phases(self, synchronous: float) -> list[tuple[float, Method]]:
        """Parts of a run and what is done in them; ``synchronous``: that of post-local SGD before local steps begin."""
        if self.name != "post_local_sgd":
            return [(1.0, self)]
        parts = [(synchronous, sync_sgd()), (1 - synchronous, dataclasses.replace(self, name="local_sgd"))]
        return [(part, method) for part, method in parts if part > 0]


def sync_sgd() -> Method:
    """Gradients are averaged at every step."""
    return Method("sync_sgd", local_start=float("inf"))


def parse_method(text: str) -> Method:
    """``sync_sgd``, ``local_sgd:16``, ``hierarchical_local_sgd:4x8``, ``local_sgd:4+late=2``, ``local_sgd:4+ef_sign``.

    Raises:
        UsageError: it is none of these.
    """
    found = WORDS.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--algorithm {text!r}: {FORM}")
    name = found["name"]
    if name not in NAMES:
        raise UsageError(f"--algorithm {text!r}: {nearest(name, NAMES, f'choose from {chr(44).join(NAMES)}')}")
    if name == "sync_sgd":
        if found["period"] or found["more"]:
            raise UsageError(f"--algorithm {text!r}: sync_sgd takes no period and nothing after it")
        return sync_sgd()
    if found["period"] is None and name not in ("sma", "ea_sgd"):
        raise UsageError(f"--algorithm {text!r}: how many steps between averagings? {FORM}")
    blocks = int(found["blocks"] or 1)
    if blocks > 1 and name not in ("hierarchical_local_sgd", "sma", "ea_sgd"):
        raise UsageError(f"--algorithm {text!r}: {name} has no blocks: hierarchical_local_sgd and sma have")
    method = Method(name, int(found["period"] or 1), blocks)
    if not min(method.period, method.block_period):
        raise UsageError(f"--algorithm {text!r}: a period is 1 or more")
    return _with_more(method, found["more"], text)


def _with_more(method: Method, more: str, text: str) -> Method:
    """With what follows each plus sign."""
    for word in filter(None, more.split("+")):
        key, sign, value = word.partition("=")
        if key == "late" and sign and value.isdecimal():
            method = dataclasses.replace(method, late=int(value))
        elif word in WIRES:
            method = dataclasses.replace(method, wire=word)
        else:
            raise UsageError(f"--algorithm {text!r}: {nearest(word, ['late=2', *WIRES], FORM)}")
    return method


def method_of(config: Mapping[str, Any]) -> Method | None:
    """That of a run's recipe; None: it has none that is predicted."""
    own = config.get("algorithm", {})
    name = own.get("name")
    if name == "sync_sgd":
        return sync_sgd()
    if name not in NAMES:
        return None
    comm = config.get("comm", {})
    is_central = name in ("sma", "ea_sgd")
    late = int(own.get("sync_period", 1) if is_central and comm.get("overlap") else own.get("overlap_steps", 0))
    wire = str(comm.get("wire", "full"))
    periods = int(own.get("sync_period", 1)), int(own.get("block_sync_period", 1))
    return Method(name, *periods, late=late, wire=wire if wire in WIRES else "full")
