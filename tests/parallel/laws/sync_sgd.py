"""Synchronous SGD (Goyal 2017, section 2), against torch.optim.SGD on the union of the ranks' batches."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from hpcsgd.algorithms.schedule import Action
from hpcsgd.comm.communicator import Communicator, SingleCommunicator
from hpcsgd.config import RunConfig
from hpcsgd.optim.schedule import LearningRate
from tests.parallel.laws.common import (
    ALLREDUCES,
    assert_bits,
    assert_close,
    built,
    make_config,
    momentum_row,
    num_versions,
    one_step,
    train,
    training,
    vector,
)
from tests.parallel.laws.registry import law
from tests.parallel.laws.simulation import Simulation

STEPS = 7


def result(config: RunConfig, comm: Communicator, steps: int = STEPS) -> torch.Tensor:
    """The parameters after some steps."""
    with built(config, comm) as parts:
        train(parts, 0, steps)
        return vector(parts.replica.module)


@law(allreduce=ALLREDUCES, overlap=[True, False])
def ranks_equal_one_process_with_all_samples(comm: Communicator, allreduce: str, overlap: bool) -> None:
    config = make_config(comm={"allreduce": allreduce, "overlap": overlap})
    with built(config, comm) as parts:
        assert parts.gradients.name == allreduce
        assert parts.gradients.overlap == overlap
        assert len(parts.gradients.buckets.parts) > 2
        reference = Simulation(config, comm.size, parts.plan.learning_rate)
        for step, done in training(parts):
            assert reference.step(step, local=False) == "gradient"
            assert done.action is Action.GRADIENT
            assert done.num_bytes == 8 * parts.replica.gradients.numel()
            assert_close(vector(parts.replica.module), vector(reference.models[0]), what=f"step {step}")
            assert num_versions(comm, parts.replica.parameters, momentum_row(parts)) == 1
        assert parts.plan.total_steps > STEPS
    alone = make_config(local_batch_size=3 * comm.size)
    assert_close(result(alone, SingleCommunicator(), parts.plan.total_steps), vector(reference.models[0]))


@law(allreduce=ALLREDUCES, dtype=["float32", "float64"])
def overlapped_or_not_gives_the_same_bits(comm: Communicator, allreduce: str, dtype: str) -> None:
    first, second = (
        result(make_config(dtype=dtype, comm={"allreduce": allreduce, "overlap": overlap}), comm)
        for overlap in (True, False)
    )
    assert_bits(first, second)


@law(dtype=["float32", "float64"])
def the_three_allreduces_give_the_same_training(comm: Communicator, dtype: str) -> None:
    by_name = {name: result(make_config(dtype=dtype, comm={"allreduce": name}), comm) for name in ALLREDUCES}
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    for name, parameters in by_name.items():
        assert_close(parameters, by_name["mpi"], tolerance, name)


@law(dtype=["float32", "float64"])
def allreduces_that_add_in_one_order_give_the_same_bits(comm: Communicator, dtype: str) -> None:
    # Two terms have one sum. Of more, Horovod and mpi4py take the same ring of the same MPI, as long as a bucket is one
    # chunk; Gloo goes round in another order.
    by_name = {
        name: result(make_config(dtype=dtype, comm={"allreduce": name, "chunk_bytes": 1 << 20}), comm)
        for name in ALLREDUCES
    }
    if comm.size <= 2:
        assert_bits(by_name["torch"], by_name["mpi"])
    if comm.size <= 2 or "Open MPI" in comm.library:
        assert_bits(by_name["horovod"], by_name["mpi"])


@law(allreduce=ALLREDUCES, passes=[2, 4])
def accumulation_changes_nothing(comm: Communicator, allreduce: str, passes: int) -> None:
    config = make_config(local_batch_size=4, accumulation_steps=passes, comm={"allreduce": allreduce, "overlap": True})
    reference = Simulation(config, comm.size, LearningRate(config.learning_rate, 0, 60 // (4 * comm.size), 2))
    with built(config, comm) as parts:
        for step, _ in training(parts, 0, 6):
            reference.step(step, local=False)
            assert_close(vector(parts.replica.module), vector(reference.models[0]), what=f"step {step}")


@law(allreduce=ALLREDUCES)
def one_rank_that_accumulates_equals_many(comm: Communicator, allreduce: str) -> None:
    many = result(make_config(local_batch_size=3, comm={"allreduce": allreduce}), comm)
    one = make_config(local_batch_size=3 * comm.size, accumulation_steps=comm.size)
    assert_close(many, result(one, SingleCommunicator()))


@law(allreduce=ALLREDUCES, passes=[1, 3])
def an_uneven_tail_counts_every_sample_once(comm: Communicator, allreduce: str, passes: int) -> None:
    # The last batch of an epoch has one sample: all ranks but the first have none.
    num_samples = 4 * 3 * comm.size + 1
    config = make_config(
        accumulation_steps=passes,
        data={"tail": "keep", "synthetic_train_samples": num_samples},
        comm={"allreduce": allreduce, "overlap": True},
    )
    with built(config, comm) as parts:
        reference = Simulation(config, comm.size, parts.plan.learning_rate)
        for step, _ in training(parts):
            reference.step(step, local=False)
            assert_close(vector(parts.replica.module), vector(reference.models[0]), what=f"step {step}")
            assert num_versions(comm, parts.replica.parameters, momentum_row(parts)) == 1
        assert parts.plan.num_global(4) == 1
        assert len(parts.loader.batch(4)) == (comm.rank == 0)


@law(allreduce=ALLREDUCES)
def the_loss_is_that_of_all_samples(comm: Communicator, allreduce: str) -> None:
    from hpcsgd.run.passes import forward_backward

    config = make_config(accumulation_steps=3, comm={"allreduce": allreduce})
    reference = Simulation(config, comm.size, lambda step: 0.0)
    union = torch.cat(reference.batches(0))
    expected = F.cross_entropy(reference.models[0](reference.images[union]), reference.labels[union], reduction="sum")
    with built(config, comm) as parts:
        parts.algorithm.start()
        parts.timer.begin(0)
        total = forward_backward(parts, 0, parts.loader.batch(0)).double().cpu().numpy().reshape(1)
        parts.algorithm.step(0, 0.1, 3)
    comm.sum_(total)
    assert_close(torch.from_numpy(total), expected.detach().reshape(1))


@law(nesterov=[False, True], allreduce=ALLREDUCES)
def absorbed_momentum_with_correction_equals_the_reference_form(
    comm: Communicator, nesterov: bool, allreduce: str
) -> None:
    first, second = (
        result(
            make_config(optimizer={"momentum_form": form, "nesterov": nesterov}, comm={"allreduce": allreduce}), comm
        )
        for form in ("reference", "absorbed")
    )
    assert_close(first, second)
    without = {"momentum_form": "absorbed", "nesterov": nesterov, "momentum_correction": False}
    third = result(make_config(optimizer=without, comm={"allreduce": allreduce}), comm)
    assert (third - first).abs().max() > 1e-4, "the rate changes: without correction the forms differ"


@law(weight_decay=[0.0, 0.05])
def normalising_by_n_with_the_unscaled_rate_differs_only_with_weight_decay(
    comm: Communicator, weight_decay: float
) -> None:
    # Ours: the mean over k n samples with the rate k eta. The other: the sum over ranks of means over n, with eta.
    rate = {"base": 0.02, "base_batch_size": 3, "scaling_rule": "linear", "warmup": "none", "decay": "none"}
    config = make_config(learning_rate=rate | {"milestones": ()}, optimizer={"weight_decay": weight_decay})
    ours = result(config, comm)
    reference = Simulation(config, comm.size, lambda step: 0.02)
    model, optimizer = reference.models[0], reference.optimizers[0]
    for group in optimizer.param_groups:
        group["lr"] = 0.02
    for step in range(STEPS):
        optimizer.zero_grad()
        for samples in reference.batches(step):
            F.cross_entropy(model(reference.images[samples]), reference.labels[samples]).backward()
        optimizer.step()
    if weight_decay and comm.size > 1:
        assert (ours - vector(model)).abs().max() > 1e-5
    else:
        assert_close(ours, vector(model))


@law(rule=["linear", "sqrt", "none"])
def warm_up_rises_by_equal_steps_to_the_scaled_rate(comm: Communicator, rule: str) -> None:
    rate = {"base": 0.1, "base_batch_size": 3, "scaling_rule": rule, "warmup": "gradual", "warmup_start": None}
    config = make_config(
        epochs=8, max_steps=None, learning_rate=rate | {"warmup_epochs": 5.0, "decay": "none", "milestones": ()}
    )
    with built(config, comm) as parts:
        steps = 5 * parts.plan.steps_per_epoch
        rates = np.array([parts.plan.learning_rate(step) for step in range(parts.plan.total_steps)])
    peak = 0.1 * {"linear": comm.size, "sqrt": comm.size**0.5, "none": 1}[rule]
    np.testing.assert_allclose(np.diff(rates[: steps + 1]), (peak - 0.1) / steps, atol=1e-15)
    np.testing.assert_allclose(rates[steps:], peak, rtol=1e-15)
    assert rates[0] == 0.1


@law(allreduce=ALLREDUCES, overlap=[True, False])
def steps_repeat_to_the_bit(comm: Communicator, allreduce: str, overlap: bool) -> None:
    config = make_config(dtype="float32", comm={"allreduce": allreduce, "overlap": overlap})
    assert_bits(result(config, comm), result(config, comm))


@law(allreduce=ALLREDUCES)
def backward_passes_between_steps_do_not_disturb_the_launches(comm: Communicator, allreduce: str) -> None:
    # A rank whose parameters get their gradients in another number of passes than was announced still takes part.
    config = make_config(local_batch_size=4, accumulation_steps=2, comm={"allreduce": allreduce, "overlap": True})
    with built(config, comm) as parts:
        parts.algorithm.start()
        if comm.rank % 2 == 0:
            one_step(parts, 0)
        else:
            parts.timer.begin(0)
            batch = parts.loader.batch(0)
            (F.cross_entropy(parts.replica.module(batch.inputs), batch.targets) / comm.size).backward()
            parts.algorithm.step(0, parts.plan.learning_rate(0), 4)
        ours = vector(parts.replica.module)
        reference = Simulation(config, comm.size, parts.plan.learning_rate)
    reference.step(0, local=False)
    assert_close(ours, vector(reference.models[0]))
