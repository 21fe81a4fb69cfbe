"""What averagings send: each wire against a simulation of all learners in NumPy, to the bytes of its messages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from hpcsgd.algorithms.schedule import Action
from hpcsgd.algorithms.wires import DifferenceWire
from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.wire_gradients import WireGradients
from hpcsgd.config import RunConfig
from hpcsgd.errors import DivergedError
from hpcsgd.record import load_run
from hpcsgd.run.parts import Parts
from hpcsgd.run.resume import capture, put_back
from hpcsgd.train import run
from tests.parallel.laws.common import (
    EXACT,
    algorithm_named,
    assert_bits,
    assert_close,
    block_size,
    built,
    make_config,
    num_versions,
    one_step,
    stack,
    train,
    training,
    vector,
)
from tests.parallel.laws.local_sgd import final
from tests.parallel.laws.registry import law
from tests.parallel.laws.resuming import assert_same_run, logged, shared_folder, stop_and_go_on
from tests.parallel.laws.simulation import Simulation

Vector = np.ndarray[Any, Any]
WIRES = ["float32", "bfloat16", "float16", "int8", "sign", "ef_sign", "top_k"]
GRADIENT_WIRES = ["bfloat16", "ef_sign", "top_k"]
DENSITY = 0.05
STRETCH = 256


class Encoder:
    """The rules of the wires, on flat vectors whose tensors are at ``slots``."""

    def __init__(self, wire: str, parts: Parts) -> None:
        self.wire = wire
        self.numel = parts.replica.parameters.numel()
        self.slots = parts.replica.slots

    def __call__(self, values: Vector) -> Vector:
        """What is read of a message that says ``values``."""
        return {"sign": self.signs, "ef_sign": self.signs, "top_k": self.largest}.get(self.wire, self.rounded)(values)

    def signs(self, values: Vector) -> Vector:
        sent = np.zeros_like(values)
        for slot in self.slots:
            own = values[slot.start : slot.start + slot.numel]
            scale = float(np.float32(np.abs(own).sum() / slot.numel))
            sent[slot.start : slot.start + slot.numel] = np.where(own < 0, -scale, scale)
        return sent

    def largest(self, values: Vector) -> Vector:
        assert len(values) <= 4096, "one stretch"
        chosen = np.argsort(-np.abs(values), kind="stable")[: math.ceil(DENSITY * len(values))]
        sent = np.zeros_like(values)
        sent[chosen] = values[chosen].astype(np.float32)
        return sent

    def rounded(self, values: Vector) -> Vector:
        if self.wire == "float32":
            return values.astype(np.float32).astype(np.float64)
        if self.wire == "bfloat16":
            return torch.from_numpy(values).bfloat16().double().numpy()
        padded = np.pad(values, (0, -len(values) % STRETCH)).reshape(-1, STRETCH)
        largest = 1.0 if self.wire == "float16" else 127.0
        scales = (np.abs(padded).max(axis=1, keepdims=True) / largest).astype(np.float32).astype(np.float64)
        parts = padded / np.where(scales == 0, 1, scales)
        parts = parts.astype(np.float16) if self.wire == "float16" else np.clip(np.rint(parts), -127, 127)
        return (parts.astype(np.float64) * scales).ravel()[: len(values)]

    def num_bytes(self, learners: int, world_size: int, itemsize: int) -> int:
        """Of the messages of a rank in one averaging."""
        if self.wire in ("sign", "ef_sign"):
            return learners * (math.ceil(self.numel / 8) + 4 * len(self.slots))
        if self.wire == "top_k":
            return learners * math.ceil(DENSITY * self.numel) * (4 + 2)
        element = {"float32": 4.0, "bfloat16": 2.0, "float16": 2 + 4 / STRETCH, "int8": 1 + 4 / STRETCH}[self.wire]
        multiple = world_size * (STRETCH if self.wire in ("float16", "int8") else 1)
        chunk = -(-(1100 // itemsize) // multiple) * multiple
        blocks = [min(chunk, self.numel - start) for start in range(0, self.numel, chunk)]
        return sum(int(-(-block // multiple) * multiple * element * (1 + 1 / world_size)) for block in blocks)


class WiredSimulation(Simulation):
    """All learners, of which each rank has ``per_rank``, with wires for parameters and gradients."""

    def __init__(self, config: RunConfig, parts: Parts, comm: Communicator, blocks: list[int]) -> None:
        self.per_rank = len(parts.learners)
        super().__init__(config, comm.size * self.per_rank, parts.plan.learning_rate, blocks)
        replica = parts.replica
        self.places = {id(p): slot for p, slot in zip(replica.trainable, replica.slots, strict=True)}
        self.order = [self.places[id(p)] for p in replica.module.parameters()]
        self.encode = Encoder(config.comm.wire, parts)
        self.encode_gradient = Encoder(config.comm.gradient_wire, parts)
        self.errors = np.zeros((self.num_ranks, self.encode.numel))
        self.gradient_errors = np.zeros((comm.size, self.encode.numel))
        self.consensus = self.flat(self.models[0])
        self.sent_and_left = (np.zeros(0), np.zeros(0))
        self.velocities: dict[int, Tensor] = {}

    def flat(self, model: nn.Module, gradient: bool = False) -> Vector:
        """The parameters, or gradients, of a model as they lie in a flat buffer."""
        found = np.zeros(self.encode.numel)
        for parameter, slot in zip(model.parameters(), self.order, strict=True):
            tensor = parameter.grad if gradient else parameter.detach()
            assert tensor is not None
            found[slot.start : slot.start + slot.numel] = tensor.numpy().ravel()
        return found

    def views(self, flat: Vector) -> Iterator[Tensor]:
        """The tensors of a flat buffer."""
        for slot in self.order:
            yield torch.from_numpy(flat[slot.start : slot.start + slot.numel].copy()).view(slot.shape)

    def step(self, step: int, local: bool) -> str:
        """With wires for gradients too, and a new consensus to differ from."""
        if local or self.config.comm.gradient_wire == "full":
            done = super().step(step, local)
        else:
            done = self.reduce(step)
        if done in ("gradient", "global"):
            self.consensus = self.flat(self.models[0])
        return done

    def reduce(self, step: int) -> str:
        """One synchronous step by what is read of the ranks' gradients."""
        parts = self.batches(step)
        total = np.zeros(self.encode.numel)
        for rank in range(self.num_ranks // self.per_rank):
            own = range(rank * self.per_rank, (rank + 1) * self.per_rank)
            error = self.gradient_errors[rank]
            for j in own:
                model, samples = self.models[j], parts[j]
                self.optimizers[j].zero_grad()
                loss = F.cross_entropy(model(self.images[samples]), self.labels[samples], reduction="sum")
                (loss / sum(map(len, parts))).backward()
                error += self.flat(model, gradient=True)
            sent = self.encode_gradient(error)
            total += sent
            error -= sent if self.encode_gradient.wire != "bfloat16" else error
        if self.encode_gradient.wire == "bfloat16":
            total = self.encode_gradient(total)
        for model, optimizer in zip(self.models, self.optimizers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = self.rate(step)
            for parameter, gradient in zip(model.parameters(), self.views(total), strict=True):
                parameter.grad = gradient
            optimizer.step()
        return "gradient"

    def update(self, model: nn.Module, optimizer: torch.optim.SGD, samples: Tensor) -> None:
        """By the sign of the direction, where that is asked for."""
        settings = self.config.optimizer
        if not settings.sign:
            super().update(model, optimizer, samples)
            return
        optimizer.zero_grad()
        F.cross_entropy(model(self.images[samples]), self.labels[samples]).backward()
        decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                gradient = parameter.grad + decays[id(parameter)] * parameter
                velocity = self.velocities.get(id(parameter), torch.zeros_like(gradient))
                velocity = self.velocities[id(parameter)] = settings.momentum * velocity + gradient
                direction = gradient + settings.momentum * velocity if settings.nesterov else velocity
                parameter -= optimizer.param_groups[0]["lr"] * direction.sign()

    def average_group(self, members: list[int]) -> None:
        """By what is read of the learners' differences from the consensus, where all are averaged."""
        wire = self.config.comm.wire
        if self.averagings % self.config.algorithm.block_sync_period or wire == "full":
            super().average_group(members)
            return
        after = self.consensus - self.mean_sent(np.stack([self.consensus - self.flat(m) for m in self.models]))
        super().average_group(members)
        for model in self.models:
            vector_to_parameters(torch.cat([v.reshape(-1) for v in self.views(after)]), model.parameters())

    def mean_sent(self, moved: Vector) -> Vector:
        """The mean of what is read of ``moved`` [k, n], which is in the error memories or sent."""
        if self.encode.wire not in ("sign", "ef_sign", "top_k"):
            of_ranks = moved.reshape(-1, self.per_rank, moved.shape[1]).sum(axis=1)
            return self.encode(sum(map(self.encode, of_ranks)) / self.num_ranks)
        whole = moved + self.errors if self.encode.wire != "sign" else moved
        sent = np.stack([self.encode(values) for values in whole])
        self.sent_and_left = (whole.mean(axis=0), (whole - sent).mean(axis=0))
        if self.encode.wire != "sign":
            self.errors = whole - sent
        return sent.mean(axis=0)


@contextmanager
def counting(comm: Communicator) -> Iterator[list[int]]:
    """The bytes of the arrays that this rank gives to sums and gathers, from here on."""
    counts: list[int] = []
    with mock.patch.multiple(comm, **{name: counted(comm, name, counts) for name in ("sum_", "allgather", "alltoall")}):
        yield counts


def counted(comm: Communicator, name: str, counts: list[int]) -> Any:
    """A collective that notes the bytes it is given."""
    method = getattr(comm, name)

    def noted(array: Any) -> Any:
        counts.append(array.nbytes)
        return method(array)

    return noted


def wired(wire: str = "full", gradient_wire: str = "full", **changes: Any) -> RunConfig:
    """A run with wires."""
    density = {"top_k_density": DENSITY} if "top_k" in (wire, gradient_wire) else {}
    return make_config(comm={"wire": wire, "gradient_wire": gradient_wire} | density, **changes)


def check_against_simulation(config: RunConfig, comm: Communicator) -> None:
    """Every step of every learner equals the simulation's; replicas are equal where they must be; bytes are right."""
    start = {None: 0, "step:3": 3}[config.algorithm.local_start] if config.algorithm.name != "sync_sgd" else 10**9
    own = config.known_learners
    with built(config, comm) as parts, counting(comm) as counts:
        blocks = [rank // block_size(comm.size) for rank in range(comm.size) for _ in range(own)]
        reference = WiredSimulation(config, parts, comm, blocks)
        for step, done in training(parts):
            told, counts[:] = sum(counts), []
            assert done.action.name.lower() == reference.step(step, local=step >= start)
            for j, replica in enumerate(parts.learners.replicas):
                expected = vector(reference.models[comm.rank * own + j])
                assert_close(vector(replica.module), expected, what=f"step {step}, learner {j}, {done.action.name}")
            wire = {Action.GLOBAL: reference.encode, Action.GRADIENT: reference.encode_gradient}.get(done.action)
            if wire is not None and wire.wire != "full":
                assert num_versions(comm, *parts.learners.parameters) == 1
                check_bytes(wire, done.num_bytes, told, 1 if done.action is Action.GRADIENT else own, comm, config)
        if isinstance(parts.algorithm.wires[Action.GLOBAL], DifferenceWire):
            check_error_memory(parts, reference, comm)


def check_bytes(
    wire: Encoder, logged_bytes: int, counted_bytes: int, learners: int, comm: Communicator, config: RunConfig
) -> None:
    """What the log says is what was given to the communicator, and what the rule says."""
    states = 8 * wire.numel if config.algorithm.momentum_policy == "average" else 0
    expected = wire.num_bytes(learners, comm.size, 8) + states
    assert logged_bytes == expected, (wire.wire, logged_bytes, expected)
    # One rank alone sums nothing in a reducer.
    assert counted_bytes == (expected if comm.size > 1 else expected - states), (wire.wire, counted_bytes, expected)


def check_error_memory(parts: Parts, reference: WiredSimulation, comm: Communicator) -> None:
    """The last consensus has moved by what was to be sent, but for the mean error, which is kept."""
    errors = parts.algorithm.wires[Action.GLOBAL].lossy.errors
    assert (errors is not None) == (reference.encode.wire in ("ef_sign", "top_k"))
    if errors is not None:
        mean = stack(comm, errors).flatten(0, 1).mean(dim=0)
        to_be_sent, left = reference.sent_and_left
        assert_close(mean, torch.from_numpy(left), EXACT, "mean error")
        assert np.abs(to_be_sent).max() > 0 < np.abs(left).max()


@law(wire=WIRES)
def wires_equal_the_simulation(comm: Communicator, wire: str) -> None:
    check_against_simulation(wired(wire, algorithm=algorithm_named("local_sgd", comm.size)), comm)


@law(sizes=(2,), wire=WIRES)
def learners_of_a_rank_send_as_the_rule_says(comm: Communicator, wire: str) -> None:
    config = wired(wire, algorithm=algorithm_named("local_sgd", comm.size))
    check_against_simulation(replace(config, learners_per_rank=2, engine="loop"), comm)


@law(gradient_wire=GRADIENT_WIRES)
def gradients_on_a_wire_equal_the_simulation(comm: Communicator, gradient_wire: str) -> None:
    section = algorithm_named("post_local_sgd", comm.size)
    config = wired(gradient_wire, gradient_wire, algorithm=section)
    check_against_simulation(config, comm)
    if comm.size == 2:
        own = {"learners_per_rank": 2, "engine": "loop"}
        check_against_simulation(replace(wired("full", gradient_wire), **own), comm)


@law(sizes=(1, 4), wire=["sign", "ef_sign", "int8"], policy=["average", "global"])
def wires_go_with_blocks_outer_steps_and_signs_of_local_steps(comm: Communicator, wire: str, policy: str) -> None:
    section = algorithm_named("hierarchical_local_sgd", comm.size, momentum_policy=policy, local_start=None)
    if policy == "global":
        section |= {"slow_momentum": 0.6, "slow_learning_rate": 0.9}
    # Momenta of the simulation's signs are not averaged.
    signs = {"sign": policy == "global", "nesterov": wire == "sign"}
    rate = {"base": 0.005, "warmup_start": 0.001}
    check_against_simulation(wired(wire, algorithm=section, optimizer=signs, learning_rate=rate), comm)


@law(sizes=(2, 3))
def with_error_memory_the_consensus_moves_by_all_but_the_mean_error(comm: Communicator) -> None:
    for wire in ("ef_sign", "top_k"):
        with built(wired(wire, algorithm=algorithm_named("local_sgd", comm.size)), comm) as parts:
            moved = torch.zeros_like(parts.replica.parameters)
            memory = parts.algorithm.wires[Action.GLOBAL].lossy.errors
            start = parts.replica.parameters.clone()
            sub = torch.sub

            def kept(first: Tensor, second: Tensor, *, out: Tensor, moved: Tensor = moved, sub: Any = sub) -> Tensor:
                if out.dim() == 2:  # what each learner is to send
                    moved += first - second[0]
                return sub(first, second, out=out)  # type: ignore[no-any-return]

            with mock.patch("hpcsgd.algorithms.wires.torch.sub", kept):
                for _, done in training(parts):
                    if done.action is Action.GLOBAL:
                        mean_moved, mean_error = (stack(comm, each).mean(dim=0) for each in (moved, memory[0]))
                        assert_close(start - parts.replica.parameters + mean_error, mean_moved, EXACT)


@law(sizes=(1, 2))
def float32_on_the_wire_is_the_default_of_a_float32_run(comm: Communicator) -> None:
    section = algorithm_named("post_local_sgd", comm.size)
    results = [final(wired(wire, algorithm=section, dtype="float32"), comm) for wire in ("full", "float32")]
    assert_bits(*results)


@law(sizes=(2,), wire=WIRES)
def what_is_not_finite_ends_all_ranks_by_one_message(comm: Communicator, wire: str) -> None:
    for bad in (math.nan, -math.inf):
        for gradient in (False, True):
            if gradient and wire not in GRADIENT_WIRES:
                continue
            name = "sync_sgd" if gradient else "local_sgd"
            config = wired(*(("full", wire) if gradient else (wire,)), algorithm=algorithm_named(name, comm.size))
            with built(replace(config, dtype="float32"), comm) as parts:
                train(parts, 0, 2)
                parts.timer.begin(2)
                target = parts.replica.gradients if gradient else parts.replica.parameters
                if comm.rank == comm.size - 1:
                    target[-3] = bad
                try:
                    if gradient:
                        parts.gradients.finish()
                    else:
                        parts.algorithm._average(Action.GLOBAL, 2, 0.1)
                    message = "nothing was raised"
                except DivergedError as error:
                    message = str(error)
            what = "the gradient" if gradient else "what was to be averaged"
            assert message == f"{what} is not finite on rank {comm.size - 1}", message


@law(sizes=(2,), wire=WIRES)
def a_state_put_back_at_any_step_goes_on_with_the_same_bits(comm: Communicator, wire: str) -> None:
    gradient_wire = wire if wire in GRADIENT_WIRES else "full"
    section = algorithm_named("post_local_sgd", comm.size)
    config = replace(wired(wire, gradient_wire, algorithm=section), learners_per_rank=2, engine="loop")
    with built(config, comm) as parts:
        states = []
        for step, _ in training(parts):
            states.append((step + 1, capture(parts, step + 1)))
        whole = parts.learners.rows.buffer.clone()
    with built(config, comm) as parts:
        parts.algorithm.start()
        for step, state in states if wire == "ef_sign" else states[2::3]:
            parts = put_back(parts, state)
            parts.algorithm.start(step)
            for each in range(step, parts.plan.total_steps):
                one_step(parts, each)
                parts.timer.finished.clear()
            assert_bits(parts.learners.rows.buffer, whole, f"from step {step}")
        assert gradient_wire == "full" or isinstance(parts.gradients, WireGradients)


@law(sizes=(2,))
def a_stopped_run_with_wires_ends_with_the_same_bits(comm: Communicator) -> None:
    with shared_folder(comm) as folder:
        config = logged(comm, "post_local_sgd", "mpi", folder / "whole")
        wires = {"wire": "ef_sign", "gradient_wire": "top_k", "top_k_density": DENSITY}
        config = replace(config, model=make_config().model, comm=replace(config.comm, **wires))
        config = replace(config, data=replace(config.data, synthetic_shape=(1, 4, 4)))
        run(config, comm)
        stop_and_go_on(comm, replace(config, run_dir=str(folder / "stopped")), 2, 6)
        if comm.rank == 0:
            assert_same_run(load_run(folder / "stopped"), load_run(folder / "whole"))
