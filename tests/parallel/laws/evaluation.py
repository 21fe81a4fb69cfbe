"""Evaluation on shards, whole runs, and channels-last memory order."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F

from hpcsgd.comm.communicator import Communicator, SingleCommunicator
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.make import make_split
from hpcsgd.run.evaluate import evaluate, evaluate_consensus
from hpcsgd.train import run
from tests.parallel.laws.common import (
    ALGORITHMS,
    ALLREDUCES,
    algorithm_named,
    assert_close,
    built,
    digest,
    make_config,
    num_versions,
    train,
    training,
    vector,
)
from tests.parallel.laws.registry import law


@law(num_samples=[1, 2, 3, 23, 24, 61], batch_size=[1, 4, 100])
def shares_of_a_split_give_the_value_of_the_whole(comm: Communicator, num_samples: int, batch_size: int) -> None:
    config = make_config(data={"synthetic_test_samples": num_samples}, evaluate={"splits": ("test", "train")})
    with built(config, comm) as parts:
        train(parts, 0, 2)
        module = parts.replica.module
        for name, split in parts.splits.items():
            shared = evaluate(parts.task, module, split, comm, batch_size)
            alone = evaluate(parts.task, module, split, SingleCommunicator(), batch_size)
            assert shared.values["accuracy"] == alone.values["accuracy"]
            assert abs(shared.values["loss"] - alone.values["loss"]) < 1e-12
            assert shared.num_samples == alone.num_samples == {"test": num_samples, "train": 60}[name]
            assert all(other == shared for other in comm.allgather_object(shared))
            images, labels = next(split.batches(0, len(split), len(split)))
            logits = module(images).detach()
            assert shared.values["accuracy"] == int((logits.argmax(dim=1) == labels).sum()) / len(split)
            assert abs(shared.values["loss"] - float(F.cross_entropy(logits, labels))) < 1e-12


@law()
def evaluation_keeps_the_mode_and_leaves_no_gradient(comm: Communicator) -> None:
    with built(make_config(), comm) as parts:
        for mode in (True, False):
            parts.replica.module.train(mode)
            evaluate(parts.task, parts.replica.module, parts.splits["test"], comm, 4)
            assert parts.replica.module.training == mode
        assert not parts.replica.gradients.any()


@law(name=ALGORITHMS)
def the_consensus_is_what_is_evaluated(comm: Communicator, name: str) -> None:
    with built(make_config(algorithm=algorithm_named(name, comm.size)), comm) as parts:
        for step, _ in training(parts):
            metrics = evaluate_consensus(parts, step)["test"]
            assert all(other == metrics for other in comm.allgather_object(metrics))
            with parts.algorithm.consensus() as module:
                model = copy.deepcopy(module)
            alone = evaluate(parts.task, model, parts.splits["test"], SingleCommunicator(), 100)
            assert metrics.values["accuracy"] == alone.values["accuracy"]
            assert abs(metrics.values["loss"] - alone.values["loss"]) < 1e-12


@law(name=ALGORITHMS)
def a_whole_run_learns_and_tells_all_ranks_the_same(comm: Communicator, name: str) -> None:
    allreduce = ALLREDUCES[ALGORITHMS.index(name) % 3]
    config = make_config(
        epochs=8,
        max_steps=None,
        local_batch_size=4,
        algorithm=algorithm_named(name, comm.size),
        comm={"allreduce": allreduce},
        evaluate={"every_epochs": 5, "splits": ("train", "test")},
    )
    result = run(config, comm)
    assert result.path is None
    assert set(result.metrics) == {"train", "test"}
    assert len(set(comm.allgather_object(str(result.metrics)))) == 1
    assert result.metrics["train"].values["accuracy"] > 0.9
    with built(config, comm) as parts:
        train(parts)
        assert evaluate_consensus(parts, parts.plan.total_steps - 1) == result.metrics


@law(allreduce=ALLREDUCES, name=["sync_sgd", "local_sgd"])
def channels_last_trains_as_contiguous(comm: Communicator, allreduce: str, name: str) -> None:
    results = []
    for channels_last in (False, True):
        config = make_config(
            model={"name": "simple_cnn_narrow", "channels_last": channels_last},
            data={"synthetic_shape": (3, 6, 6), "synthetic_train_samples": 30},
            algorithm=algorithm_named(name, comm.size),
            comm={"allreduce": allreduce, "bucket_bytes": 40000},
            local_batch_size=2,
        )
        with built(config, comm) as parts:
            train(parts, 0, 4)
            replica = parts.replica
            weights = [m.weight for m in replica.module.modules() if isinstance(m, torch.nn.Conv2d)]
            for weight in weights:
                assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
                assert weight.grad is not None
                assert weight.grad.stride() == weight.stride()
            storages = {p.untyped_storage().data_ptr() for p in replica.trainable}
            assert storages == {replica.parameters.untyped_storage().data_ptr()}
            gradients = {p.grad.untyped_storage().data_ptr() for p in replica.trainable if p.grad is not None}
            assert gradients == {replica.gradients.untyped_storage().data_ptr()}
            parts.algorithm.finish()
            assert num_versions(comm, replica.parameters) == 1
            results.append(vector(replica.module))
    assert_close(results[0], results[1], 1e-10)


@law(channels_last=[False, True])
def evaluation_does_not_depend_on_the_memory_order(comm: Communicator, channels_last: bool) -> None:
    config = make_config(
        model={"name": "simple_cnn_narrow", "channels_last": channels_last}, data={"synthetic_shape": (3, 6, 6)}
    )
    dataset = load_dataset(config.data)
    with built(config, comm) as parts:
        metrics = evaluate_consensus(parts, 0)["test"]
        model = copy.deepcopy(parts.replica.module).to(memory_format=torch.contiguous_format)
    split = make_split(dataset, dataset.test, device=torch.device("cpu"), dtype=torch.float64, channels_last=False)
    alone = evaluate(parts.task, model, split, SingleCommunicator(), 100)
    assert metrics.values["accuracy"] == alone.values["accuracy"]
    assert abs(metrics.values["loss"] - alone.values["loss"]) < 1e-12
    assert set(comm.allgather_object(digest(vector(model)))) == {digest(vector(model))}
