"""Any optimizer, its state policies and clipped gradients, against torch.optim objects in one process."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsgd.algorithms.schedule import Action
from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import RunConfig
from hpcsgd.config.imports import find_object
from hpcsgd.run.parts import Parts
from tests.parallel.laws.common import assert_close, built, make_config, training, vector
from tests.parallel.laws.registry import law
from tests.parallel.laws.simulation import Simulation
from tests.single.optim.plain_optimizers import make_plain

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    # A gradient that is nearly zero would be divided by itself: the sums' order would show.
    "adamw": ("torch.optim.AdamW", {"betas": [0.8, 0.9], "weight_decay": 0.1, "eps": 1e-4}),
    "sgd": ("torch.optim.SGD", {"momentum": 0.9, "weight_decay": 0.01}),
    "rmsprop": ("torch.optim.RMSprop", {"momentum": 0.5, "eps": 1e-4}),
    "adagrad": ("torch.optim.Adagrad", {"initial_accumulator_value": 0.01}),
    "nadam": ("torch.optim.NAdam", {"weight_decay": 0.1, "eps": 1e-4}),
    "own": ("tests.single.optim.own_optimizer.NormalizedMomentum", {"weight_decay": 0.1}),
}
BY_LAYER: dict[str, dict[str, Any]] = {
    # The form of the paper. A large coefficient is as if all rates were larger.
    "lars": {"momentum_form": "absorbed", "momentum_correction": False, "trust_coefficient": 0.3, "weight_decay": 0.1},
    "lamb": {"momentum": 0.9, "weight_decay": 0.1, "betas": (0.8, 0.9), "eps": 1e-4},
}
ALL = [*OPTIMIZERS, *BY_LAYER]
POLICIES: dict[str, str | dict[str, str]] = {
    "average": "average",
    "reset": "reset",
    "every-second": "average:2",
    "by-name": {"exp_avg": "average", "exp_avg_sq": "average:2"},
    "one-reset": {"exp_avg": "reset"},
}
PLAIN = {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0}


def of(name: str, **changes: Any) -> RunConfig:
    """A run with one of the optimizers."""
    if name in BY_LAYER:
        return make_config(epochs=3, optimizer=PLAIN | {"name": name} | BY_LAYER[name], **changes)
    path, settings = OPTIMIZERS[name]
    return make_config(epochs=3, optimizer=PLAIN | {"name": path, "init_args": settings}, **changes)


class Reference(Simulation):
    """Learners with optimizers of the recipe's class, whose state is averaged tensor by tensor."""

    def __init__(self, parts: Parts) -> None:
        config = parts.config
        super().__init__(config, parts.plan.num_learners, parts.plan.learning_rate)
        if config.optimizer.name != "sgd":
            self.optimizers = [self.make(model) for model in self.models]
        self.norms: list[float] = []

    def make(self, model: nn.Module) -> Any:
        """An optimizer of all parameters, with weight decay for matrices alone."""
        own = self.config.optimizer
        if own.name in BY_LAYER:
            return make_plain(model, own)
        matrices = [p for p in model.parameters() if p.dim() > 1]
        others = [p for p in model.parameters() if p.dim() == 1]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
        return find_object(own.name, "")(groups, lr=0.1, **own.init_args)

    def update(self, model: nn.Module, optimizer: Any, samples: Tensor) -> None:
        """One update by the mean gradient of ``samples``, clipped."""
        optimizer.zero_grad()
        F.cross_entropy(model(self.images[samples]), self.labels[samples]).backward()
        if self.config.optimizer.clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(model.parameters(), self.config.optimizer.clip_norm)
            self.norms.append(float(norm))
        optimizer.step()

    def average_group(self, members: list[int]) -> None:
        """Average parameters, and state tensors as the policies say."""
        mean = torch.stack([vector(self.models[j]) for j in members]).mean(dim=0)
        for j in members:
            nn.utils.vector_to_parameters(mean.clone(), self.models[j].parameters())
        policy = self.config.algorithm.state_policy
        for parameters in zip(*(self.models[j].parameters() for j in members), strict=True):
            states = [self.optimizers[j].state[p] for j, p in zip(members, parameters, strict=True)]
            for name in [n for n, value in states[0].items() if isinstance(value, Tensor) and value.dim()]:
                own = policy if isinstance(policy, str) else policy.get(name, "local")
                kind, _, every = own.partition(":")
                if kind == "average" and self.averagings % int(every or 1) == 0:
                    tensors = [state[name] for state in states]
                    average = torch.stack(tensors).mean(dim=0)
                    for tensor in tensors:
                        tensor.copy_(average)
                if kind == "reset":
                    for state in states:
                        state[name].zero_()
        if policy == "reset":
            for j in members:
                self.optimizers[j].state.clear()

    def state(self, learner: int, name: str) -> Tensor:
        """A state tensor of a learner in the module's order; zeros where there is none."""
        states = self.optimizers[learner].state
        name = "momentum_buffer" if name == "momentum" else name
        parts = [states[p].get(name, torch.zeros_like(p)) for p in self.models[learner].parameters()]
        return torch.cat([part.detach().reshape(-1) for part in parts])


def check(config: RunConfig, comm: Communicator, *, local: bool) -> list[Action]:
    """Every learner equals the reference's at every step, its state tensors too; gives the actions."""
    actions = []
    with built(config, comm) as parts:
        reference, own = Reference(parts), len(parts.learners)
        for step, done in training(parts):
            reference.norms.clear()
            reference.step(step, local)
            actions.append(done.action)
            for row, replica in enumerate(parts.learners.replicas):
                j = comm.rank * own + row
                what = f"learner {j} at step {step}"
                assert_close(vector(replica.module), vector(reference.models[j]), what=what)
                place = {id(p): slot for p, slot in zip(replica.trainable, replica.slots, strict=True)}
                for name in parts.algorithm.optimizer.states if config.optimizer.name != "sgd" else ():
                    views = [place[id(p)].view(parts.learners.rows[name][row]) for p in replica.module.parameters()]
                    ours = torch.cat([view.reshape(-1) for view in views])
                    assert_close(ours, reference.state(j, name), what=f"{name} of {what}")
            if config.optimizer.clip_norm is not None:
                norms = reference.norms[comm.rank * own : (comm.rank + 1) * own]
                assert isinstance(done.gradient_norm, Tensor) and done.gradient_norm.dim() == 0
                assert_close(done.gradient_norm, torch.tensor(max(norms), dtype=torch.float64), what="gradient norm")
            else:
                assert done.gradient_norm != done.gradient_norm
    return actions


@law(name=ALL)
def synchronous_steps_are_those_of_one_process_with_the_whole_batch(comm: Communicator, name: str) -> None:
    assert set(check(of(name), comm, local=False)) == {Action.GRADIENT}


@law(name=ALL)
def local_steps_are_those_of_optimizers_side_by_side(comm: Communicator, name: str) -> None:
    actions = check(of(name, algorithm={"name": "local_sgd", "sync_period": 2}), comm, local=True)
    assert set(actions) == {Action.NONE, Action.GLOBAL}


@law(name=["adamw", "own", "lars"], algorithm=["sync_sgd", "local_sgd"])
def learners_of_a_rank_are_as_many_ranks(comm: Communicator, name: str, algorithm: str) -> None:
    section = {"name": algorithm} | ({"sync_period": 2} if algorithm == "local_sgd" else {})
    data = {"synthetic_train_samples": 120}
    config = of(name, algorithm=section, data=data, learners_per_rank=2, engine="loop")
    check(config, comm, local=algorithm == "local_sgd")


@law(policy=list(POLICIES))
def moments_follow_their_policies(comm: Communicator, policy: str) -> None:
    section = {"name": "local_sgd", "sync_period": 2, "momentum_policy": POLICIES[policy]}
    check(of("adamw", algorithm=section, max_steps=9), comm, local=True)


@law(name=["sgd", "adamw"], algorithm=["sync_sgd", "local_sgd"], own=[1, 2])
def gradients_are_clipped_once_after_the_reduction(comm: Communicator, name: str, algorithm: str, own: int) -> None:
    section = {"name": algorithm} | ({"sync_period": 2} if algorithm == "local_sgd" else {})
    optimizer = PLAIN | {"clip_norm": 0.3}
    if name == "adamw":
        optimizer |= {"name": OPTIMIZERS[name][0], "init_args": OPTIMIZERS[name][1]}
    data = {"synthetic_train_samples": 120}
    config = make_config(algorithm=section, optimizer=optimizer, data=data, learners_per_rank=own, engine="loop")
    check(config, comm, local=algorithm == "local_sgd")
