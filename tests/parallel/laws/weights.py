"""Losses that give sum and weight: the mean is over what all samples weigh, whoever has them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsgd.comm.communicator import Communicator, SingleCommunicator
from hpcsgd.errors import UsageError
from hpcsgd.run.evaluate import evaluate
from hpcsgd.run.passes import forward_backward
from tests.parallel.laws.common import ALLREDUCES, algorithm_named, assert_close, built, make_config, training, vector
from tests.parallel.laws.registry import law
from tests.parallel.laws.simulation import Simulation

UNEVEN: dict[str, dict[str, Any]] = {
    "sync": {"comm": {"allreduce": "mpi", "overlap": True}},
    "accumulated": {"accumulation_steps": 3, "comm": {"allreduce": "mpi", "overlap": True}},
    "learners": {"learners_per_rank": 2, "engine": "loop"},
    "threads": {"learners_per_rank": 2, "engine": "threads", "accumulation_steps": 3},
    "tail": {"data": {"tail": "keep", "synthetic_train_samples": 31}},
    "clipped": {"optimizer": {"clip_norm": 0.2}},
    "local": {"algorithm": {"name": "local_sgd", "sync_period": 2}, "accumulation_steps": 3},
    "local-learners": {"algorithm": {"name": "local_sgd", "sync_period": 2}, "learners_per_rank": 2, "engine": "loop"},
}


def of_counted(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """As the loss of a text with padding: samples of the class 0 do not count, those of class 2 twice."""
    return (F.cross_entropy(logits, labels, reduction="none") * labels).sum(), labels.sum()


def of_all(logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    return F.cross_entropy(logits, labels, reduction="sum"), float(len(labels))


class Weighted(Simulation):
    """Learners whose loss is the sum over the weight of what they see."""

    def update(self, model: nn.Module, optimizer: torch.optim.SGD, samples: Tensor) -> None:
        optimizer.zero_grad()
        total, weight = of_counted(model(self.images[samples]), self.labels[samples])
        (total / max(int(weight), 1)).backward()
        if self.config.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), self.config.optimizer.clip_norm)
        optimizer.step()


@law(name=list(UNEVEN), sizes=(1, 2, 3))
def unequal_weights_are_those_of_one_process_with_the_whole_batch(comm: Communicator, name: str) -> None:
    config = make_config(**{"data": {"synthetic_train_samples": 60}} | UNEVEN[name])
    with built(config, comm, loss=of_counted) as parts:
        reference, own = Weighted(config, parts.plan.num_learners, parts.plan.learning_rate), len(parts.learners)
        for step, _ in training(parts):
            reference.step(step, local=name.startswith("local"))
            for row, replica in enumerate(parts.learners.replicas):
                expected = vector(reference.models[comm.rank * own + row])
                assert_close(vector(replica.module), expected, what=f"learner {row} at step {step}")


@law(allreduce=ALLREDUCES, sizes=(2, 3))
def the_weights_are_summed_beside_any_gradient_allreduce(comm: Communicator, allreduce: str) -> None:
    config = make_config(comm={"allreduce": allreduce})
    with built(config, comm, loss=of_counted) as parts:
        reference = Weighted(config, comm.size, parts.plan.learning_rate)
        for step, done in training(parts, last=3):
            reference.step(step, local=False)
            assert done.num_bytes == parts.replica.gradients.nbytes + 8
            assert_close(vector(parts.replica.module), vector(reference.models[0]), what=f"step {step}")


@law(name=["post_local_sgd", "hierarchical_local_sgd", "sma"], sizes=(2,))
def a_weight_of_one_a_sample_changes_nothing(comm: Communicator, name: str) -> None:
    found = []
    for loss in (of_all, None):
        config = make_config(algorithm=algorithm_named(name, comm.size), data={"synthetic_train_samples": 32})
        with built(config, comm, loss=loss) as parts:
            for _ in training(parts):
                pass
            found.append(vector(parts.replica.module))
    assert_close(*found)


@law(sizes=(1, 3))
def losses_and_evaluations_are_sums_over_weights(comm: Communicator) -> None:
    with built(make_config(), comm, loss=of_counted) as parts:
        module, split = parts.replica.module, parts.splits["test"]
        shared, alone = (evaluate(parts.task, module, split, of, 4) for of in (comm, SingleCommunicator()))
        inputs, targets = next(split.batches(0, len(split), len(split)))
        total, weight = of_counted(module(inputs).detach(), targets)
        assert abs(shared.values["loss"] - float(total / weight)) < 1e-12
        assert abs(alone.values["loss"] - float(total / weight)) < 1e-12
        parts.algorithm.start()
        parts.timer.begin(0)
        batch = parts.loader.batch(0)
        expected = of_counted(module(batch.inputs).detach(), batch.targets)
        found = forward_backward(parts, 0, batch)
        assert_close(found, torch.stack([part.double() for part in expected]))
        parts.algorithm.step(0, 0.1, 3)


@law(engine=["fused", "dense"], sizes=(1, 2))
def engines_that_need_one_number_a_sample_refuse_it_by_name(comm: Communicator, engine: str) -> None:
    try:
        with built(make_config(learners_per_rank=2, engine=engine), comm, loss=of_counted):
            raise AssertionError("not refused")
    except UsageError as error:
        assert engine in str(error) and "of_counted" in str(error), error
