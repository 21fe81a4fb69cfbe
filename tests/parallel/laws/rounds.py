"""H over a run, and what an averaging makes of the mean: against replicas of plain torch in one process."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from hpcsgd.algorithms.schedule import Action
from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import RunConfig
from hpcsgd.run.parts import Parts
from hpcsgd.run.resume import capture, put_back
from tests.parallel.laws.common import assert_bits, assert_close, block_size, built, make_config, training, vector
from tests.parallel.laws.local_sgd import in_order
from tests.parallel.laws.registry import law
from tests.parallel.laws.simulation import Simulation

STEPS, PER_EPOCH = 12, 4
START = 2
"""First local step of those that begin late."""

Rule = Callable[[int, float], int]
"""H of the steps that begin with a step of such a learning rate."""

Outer = Callable[[Tensor, Tensor, int, float], Tensor]
"""From anchor, mean, step and learning rate to the next anchor."""


def constant(step: int, rate: float) -> int:
    return 3


def linear(step: int, rate: float) -> int:
    # 1 + floor(3 t / 6), by hand.
    return [1, 1, 2, 2, 3, 3, 4][min(step, 6)]


def doubling(step: int, rate: float) -> int:
    return [1, 1, 2, 2, 4, 4, 5][min(step - START, 6)]


def staged(step: int, rate: float) -> int:
    return 1 if step < 4 else 2 if step < 8 else 4


def quadratic(step: int, rate: float) -> int:
    # The rate is 0.05 after the warm-up of 3 steps, and halved at steps 4 and 8.
    return 1 if step < 4 else 4 if step < 8 else 16


def inverse(step: int, rate: float) -> int:
    return 2 if step < 3 else max(2, math.floor(0.08 / rate + 1e-6))


def slow(momentum: dict[str, Tensor], beta: float = 0.6, alpha: float = 0.9) -> Outer:
    def move(anchor: Tensor, mean: Tensor, step: int, rate: float) -> Tensor:
        momentum["u"] = beta * momentum.get("u", torch.zeros_like(mean)) + (anchor - mean) / rate
        return anchor - alpha * rate * momentum["u"]

    return move


def nesterov(momentum: dict[str, Tensor], gamma: Callable[[int], float], beta: float = 0.9) -> Outer:
    def move(anchor: Tensor, mean: Tensor, step: int, rate: float) -> Tensor:
        momentum["m"] = beta * momentum.get("m", torch.zeros_like(mean)) + (anchor - mean)
        return anchor - gamma(step) * (beta * momentum["m"] + (anchor - mean))

    return move


def cosine(step: int) -> float:
    """Up over 4 steps, and down to a tenth over all 12."""
    done = step + 1
    return 0.5 * min(done / 4, 1.0) * (0.1 + 0.9 * (1 + math.cos(math.pi * done / STEPS)) / 2)


def adam(state: dict[str, Any]) -> Outer:
    def move(anchor: Tensor, mean: Tensor, step: int, rate: float) -> Tensor:
        if not state:
            state["p"] = nn.Parameter(anchor.clone())
            state["optimizer"] = torch.optim.Adam([state["p"]], lr=0.02, betas=(0.8, 0.9), eps=1e-4)
        state["p"].grad = anchor - mean
        state["optimizer"].step()
        result: Tensor = state["p"].detach().clone()
        return result

    return move


@dataclass(frozen=True)
class Example:
    """A recipe's section, and what it should do.

    Attributes:
        section: of the recipe.
        rule: H; None: halved and doubled by the divergence.
        outer: makes the outer step; None: the mean is the next model.
        clipped: the last step ends with an averaging.
    """

    section: dict[str, Any]
    rule: Rule | None = constant
    outer: Callable[[], Outer] | None = None
    clipped: bool = True


TARGET, LARGEST = 0.03, 4
DIVERGENCE = {"kind": "divergence", "target": TARGET, "largest": LARGEST}
POST = {"name": "post_local_sgd", "local_start": f"step:{START}"}
BLOCKS = {"name": "hierarchical_local_sgd", "block_sync_period": 2}
EXAMPLES = {
    "diloco": Example({"name": "diloco", "sync_period": 3}, constant, lambda: nesterov({}, lambda step: 0.7), False),
    "lookahead": Example(
        {"name": "local_sgd", "sync_period": 3, "outer_step": "nesterov", "outer_momentum": 0.0}
        | {"outer_learning_rate": 0.5},
        constant,
        lambda: lambda anchor, mean, step, rate: anchor + 0.5 * (mean - anchor),
        False,
    ),
    "linear": Example(
        {"name": "local_sgd", "sync_period": 4, "period_schedule": {"kind": "linear", "warmup_epochs": 1.5}}, linear
    ),
    "doubling": Example(
        POST
        | {"sync_period": 5, "period_schedule": {"kind": "doubling", "warmup_epochs": 1.5}}
        | {"outer_step": "slow_momentum", "slow_momentum": 0.6, "slow_learning_rate": 0.9},
        doubling,
        lambda: slow({}),
    ),
    "staged": Example(
        {"name": "diloco", "period_schedule": {"kind": "staged"}, "outer_learning_rate": 0.5, "outer_momentum": 0.8}
        | {"outer_schedule": "cosine", "outer_final_fraction": 0.1, "outer_warmup_epochs": 1.0},
        staged,
        lambda: nesterov({}, cosine, 0.8),
    ),
    "power": Example(
        {"name": "local_sgd", "period_schedule": {"kind": "power", "alpha": 0.05}, "outer_step": "torch.optim.Adam"}
        | {"outer_init_args": {"betas": [0.8, 0.9], "eps": 1e-4}, "outer_learning_rate": 0.02},
        quadratic,
        lambda: adam({}),
    ),
    "inverse-blocks": Example(
        BLOCKS
        | {"sync_period": 2, "outer_step": "nesterov"}
        | {"period_schedule": {"kind": "power", "alpha": 0.08, "power": 1.0, "warmup_period": 2}},
        inverse,
        lambda: nesterov({}, lambda step: 0.7),
    ),
    "late": Example({"name": "local_sgd", "sync_period": 4, "overlap_steps": 2}, lambda step, rate: 4, None, False),
    "late-diloco": Example(
        {"name": "diloco", "sync_period": 3, "overlap_steps": 1, "momentum_policy": "average"},
        constant,
        lambda: nesterov({}, lambda step: 0.7),
        False,
    ),
    "late-fragments": Example(
        {"name": "diloco", "sync_period": 2, "overlap_steps": 1, "overlap_fragments": 3},
        lambda step, rate: 2,
        lambda: nesterov({}, lambda step: 0.7),
        False,
    ),
    "late-fragments-blocks": Example(
        BLOCKS | {"sync_period": 2, "overlap_steps": 1, "overlap_fragments": 2},
        lambda step, rate: 2,
        None,
        False,
    ),
    # The delay is shorter than asked for before the last step.
    "late-power": Example(
        {"name": "local_sgd", "sync_period": 3, "period_schedule": {"kind": "power", "alpha": 0.05, "power": 2.0}}
        | {"outer_step": "torch.optim.Adam", "outer_init_args": {"betas": [0.8, 0.9], "eps": 1e-4}}
        | {"outer_learning_rate": 0.02, "overlap_steps": 2},
        lambda step, rate: max(quadratic(step, rate), 3),
        lambda: adam({}),
    ),
    "late-blocks": Example(
        BLOCKS | {"sync_period": 2, "outer_step": "nesterov", "overlap_steps": 1},
        lambda step, rate: 2,
        lambda: nesterov({}, lambda step: 0.7),
        False,
    ),
    "divergence": Example({"name": "local_sgd", "sync_period": 2, "period_schedule": DIVERGENCE}, None),
    "divergence-blocks": Example(
        BLOCKS | {"sync_period": 2, "period_schedule": DIVERGENCE, "outer_step": "nesterov"},
        None,
        lambda: nesterov({}, lambda step: 0.7),
    ),
}


def config_of(example: Example, comm: Communicator, own: int = 1, /, **changes: Any) -> RunConfig:
    """A run of 12 steps in three epochs, whatever the number of learners."""
    section = dict(example.section)
    if section["name"] == "hierarchical_local_sgd":
        section["block_size"] = block_size(comm.size)
    learners = {"learners_per_rank": own, "engine": "loop"} if own > 1 else {}
    return make_config(
        epochs=3,
        max_steps=None,
        algorithm=section,
        data={"synthetic_train_samples": 3 * PER_EPOCH * comm.size * own},
        learning_rate={"milestones": (1.0, 2.0), "warmup_epochs": 0.75},
        model={"name": "fully_connected", "widths": (8,)},
        **(changes | learners),
    )


@dataclass
class Reference(Simulation):
    """All learners: local steps, H and outer step by the plain functions above."""

    example: Example
    config: RunConfig
    size: int
    own: int
    rate: Callable[[int], float]
    places: Tensor
    """Of each parameter in the flat buffer."""
    numel: int
    """Of that."""
    left: int = 0
    period: int = 2
    divergence: float = math.nan
    pending: tuple[int, int, Tensor, Tensor, int] | None = None
    """The step after which it began, that after which it is merged, y, its mean, and the fragment."""

    def __post_init__(self) -> None:
        self.length = 0
        super().__init__(self.config, self.size * self.own, self.rate)
        count, numel = self.config.algorithm.overlap_fragments, self.numel
        bounds = [numel * turn // count for turn in range(count + 1)]
        self.fragments = [
            (self.places >= low) & (self.places < high) for low, high in zip(bounds, bounds[1:], strict=False)
        ]
        # Each has an outer step of its own, of which the others' part is not looked at.
        self.outers = [self.example.outer() for _ in bounds[1:]] if self.example.outer is not None else []
        self.starts = START if self.config.algorithm.local_start else 0

    def step(self, step: int, local: bool = True) -> str:
        """One step of all; says what was averaged."""
        if step < self.starts:
            return super().step(step, local=False)
        if self.anchor is None:
            self.anchor = vector(self.models[0])
        if self.left == 0:
            self.left = self.length = self.period_from(step)
        for model, optimizer, samples in zip(self.models, self.optimizers, self.batches(step), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = self.rate(step)
            self.update(model, optimizer, samples)
        self.left -= 1
        self.divergence = math.nan
        if self.pending is not None and self.pending[1] == step:
            begun, _, before, mean, turn = self.pending
            vectors = torch.stack([vector(model) for model in self.models])
            merged = vectors + self.next_anchor(mean, begun, [turn]) - before
            self.put(torch.where(self.fragments[turn], merged, vectors))
            self.pending = None
        return "none" if self.left else self.join(step)

    def period_from(self, step: int) -> int:
        """H of the steps that begin with ``step``."""
        rule = self.example.rule
        period = rule(step, self.rate(step)) if rule is not None else self.period
        return min(period, STEPS - step) if self.example.clipped else period

    def next_anchor(self, mean: Tensor, step: int, turns: Iterable[int] = ()) -> Tensor:
        """What the outer step makes of the mean of some fragments, or all, after ``step``."""
        for turn in (turns or range(len(self.fragments))) if self.outers else ():
            assert self.anchor is not None
            moved = self.outers[turn](self.anchor, mean, step, self.rate(step))
            self.anchor = torch.where(self.fragments[turn], moved, self.anchor)
        self.target = self.anchor if self.outers and self.anchor is not None else mean
        return self.target

    def put(self, vectors: Tensor) -> None:
        """Give each learner its parameters."""
        for model, row in zip(self.models, vectors, strict=True):
            vector_to_parameters(row.clone(), model.parameters())

    def join(self, step: int) -> str:
        """Average over blocks, or all."""
        self.averagings += 1
        everywhere = self.averagings % self.config.algorithm.block_sync_period == 0
        everywhere |= self.example.clipped and step + 1 == STEPS
        vectors = torch.stack([vector(model) for model in self.models])
        if not everywhere:
            per_block = block_size(self.size) * self.own
            for block in vectors.split(per_block):
                block.copy_(block.mean(dim=0).expand_as(block))
        else:
            mean = self.mean_of(vectors)
            if self.example.rule is None:
                self.measure((vectors - mean).square().sum(dim=1).mean().sqrt().item() / mean.norm().item())
            policy = self.config.algorithm.momentum_policy
            if policy in ("average", "reset"):
                momenta = torch.stack([self.momentum(j) for j in range(len(self.models))])
                for j in range(len(self.models)):
                    self.set_momentum(j, momenta.mean(dim=0) if policy == "average" else torch.zeros_like(momenta[j]))
            delay = min(self.config.algorithm.overlap_steps, self.period_from(step + 1) - 1, STEPS - 1 - step)
            if delay > 0:
                turn = (self.averagings // self.config.algorithm.block_sync_period - 1) % len(self.fragments)
                self.pending = (step, step + delay, vectors, mean, turn)
                return "global"
            vectors.copy_(self.next_anchor(mean, step).expand_as(vectors))
        self.put(vectors)
        return "global" if everywhere else "block"

    def mean_of(self, vectors: Tensor) -> Tensor:
        """What all learners, [k, n], are taken to be on average."""
        return vectors.mean(dim=0)

    def measure(self, divergence: float) -> None:
        """The next H."""
        self.divergence = divergence
        if divergence > TARGET:
            self.period = max(self.period // 2, 1)
        elif divergence < TARGET / 2:
            self.period = min(self.period * 2, LARGEST)


MakeReference = Callable[[Example, Parts, int], Reference]
"""From a run's example, its parts, and the learners of a rank."""


def make_reference(example: Example, parts: Parts, own: int, kind: type[Reference] = Reference) -> Reference:
    """The reference of a run."""
    numel = parts.replica.parameters.numel()
    places = in_order(parts, torch.arange(numel))
    return kind(example, parts.config, parts.comm.size, own, parts.plan.learning_rate, places, numel)


def check(
    comm: Communicator, example: Example, own: int, make: MakeReference = make_reference, /, **changes: Any
) -> list[int]:
    """Every learner equals the reference's at every step; gives H of each."""
    with built(config_of(example, comm, own, **changes), comm) as parts:
        assert (parts.plan.steps_per_epoch, parts.plan.total_steps) == (PER_EPOCH, STEPS)
        reference = make(example, parts, own)
        periods, last = [], Action.NONE
        for step, done in training(parts):
            expected = reference.step(step)
            what = f"step {step}, {expected}"
            assert done.action.name.lower() == expected, (what, done)
            for row, replica in enumerate(parts.learners.replicas):
                model = reference.models[comm.rank * own + row]
                assert_close(vector(replica.module), vector(model), what=f"learner {row} at {what}")
            assert done.period == (1 if step < reference.starts else reference.length), what
            assert math.isnan(done.divergence) == math.isnan(reference.divergence), what
            if not math.isnan(done.divergence):
                assert math.isclose(done.divergence, reference.divergence, rel_tol=1e-9, abs_tol=1e-12), what
            periods.append(done.period)
            last = done.action
        assert (last is Action.GLOBAL) or not example.clipped
        assert reference.pending is None
    return periods


@law(name=list(EXAMPLES))
def rounds_and_outer_steps_equal_a_simulation(comm: Communicator, name: str) -> None:
    periods = check(comm, EXAMPLES[name], 1)
    assert len(set(periods)) > 1 or not EXAMPLES[name].clipped, periods


@law(sizes=(2,), name=list(EXAMPLES))
def learners_of_a_rank_go_by_the_same_rounds(comm: Communicator, name: str) -> None:
    check(comm, EXAMPLES[name], 2)


@law(sizes=(3,), name=list(EXAMPLES))
def rounds_go_on_from_every_step_to_the_bit(comm: Communicator, name: str) -> None:
    check_resumption(comm, config_of(EXAMPLES[name], comm))


def check_resumption(comm: Communicator, config: RunConfig) -> None:
    """A run that goes on from any step is the one that was never stopped."""
    with built(config, comm) as parts:
        saved = [from_file(capture(parts, step + 1)) for step, _ in training(parts)]
        expected = parts.learners.rows.buffer.clone()
    with built(config, comm) as parts:
        # From the last one on, so that nothing of what is to come is known.
        for first in reversed(range(1, STEPS)):
            put_back(parts, saved[first - 1])
            parts.algorithm.start(first)
            for step, _ in training(parts, first, min(first + 4, STEPS)):
                whole = saved[step]["rows"]
            for name, rows in whole.items():
                assert_bits(parts.learners.rows[name], rows, f"{name} after step {step}, from step {first}")
    assert_bits(torch.cat([saved[-1]["rows"][name] for name in saved[-1]["rows"]], dim=1), expected)


def from_file(state: dict[str, Any]) -> dict[str, Any]:
    """A state as a checkpoint gives it back."""
    content = io.BytesIO()
    torch.save(state, content)
    content.seek(0)
    found: dict[str, Any] = torch.load(content, weights_only=True)
    return found


@law(sizes=(1, 3), name=[name for name in EXAMPLES if name.startswith("late")])
def a_look_at_the_consensus_leaves_what_is_under_way(comm: Communicator, name: str) -> None:
    """Each look gives the mean of the replicas as they would be merged; the training does not know of it."""
    config = config_of(EXAMPLES[name], comm, 2)
    with built(config, comm) as parts:
        expected = [parts.learners.rows.buffer.clone() for _ in training(parts)]
        parts.algorithm.finish()
        final = vector(parts.replica.module)
    with built(config, comm) as parts:
        reference = make_reference(EXAMPLES[name], parts, 2)
        previews: list[tuple[int, Tensor]] = []
        for step, _ in training(parts):
            reference.step(step)
            if reference.pending is None:
                for turn, preview in previews:
                    own = reference.fragments[turn]
                    assert_close(preview[own], reference.target[own], what=f"what is merged at step {step}")
                previews = []
            mean = torch.stack([vector(model) for model in reference.models]).mean(dim=0)
            with parts.algorithm.consensus() as module:
                if reference.pending is None:
                    assert_close(vector(module), mean, what=f"consensus after step {step}")
                else:
                    previews.append((reference.pending[4], vector(module) - mean + reference.pending[3]))
            assert_bits(parts.learners.rows.buffer, expected[step], f"step {step}")
        parts.algorithm.finish()
        assert_bits(vector(parts.replica.module), final)
