"""The ranks' batches of an epoch: disjoint, and together one permutation of the training set."""

from __future__ import annotations

import hashlib

import torch

from hpcsgd.comm.communicator import Communicator, SingleCommunicator
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.make import make_split
from hpcsgd.run.build import assemble
from hpcsgd.tasks.given import Given
from tests.parallel.laws.common import assert_bits, built, make_config
from tests.parallel.laws.registry import law
from tests.single.data.own.own_data import Files, arrays

TAILS = {"none": 0, "one": 1, "most": -1}


def keys(images: torch.Tensor) -> list[str]:
    """A name for each image, by its pixels."""
    return [hashlib.sha1(image.contiguous().cpu().numpy().tobytes()).hexdigest() for image in images]


@law(tail=["drop", "wrap", "keep"], rest=list(TAILS))
def the_ranks_share_one_permutation(comm: Communicator, tail: str, rest: str) -> None:
    full = 3 * comm.size
    num_samples = 5 * full + TAILS[rest] % full
    data = {"tail": tail, "synthetic_train_samples": num_samples}
    config = make_config(local_batch_size=3, data=data)
    dataset = load_dataset(config.data)
    whole = make_split(dataset, dataset.train, device=torch.device("cpu"), dtype=torch.float64, channels_last=False)
    number = {key: i for i, key in enumerate(keys(next(whole.batches(0, num_samples, num_samples))[0]))}
    assert len(number) == num_samples
    orders = []
    with built(config, comm) as parts:
        per_epoch = parts.plan.steps_per_epoch
        for epoch in range(2):
            order: list[int] = []
            for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                batch = parts.loader.batch(step)
                own = [number[key] for key in keys(batch.inputs)]
                assert_bits(batch.targets, torch.from_numpy(dataset.train.targets[own]))
                batches = comm.allgather_object(own)
                assert sum(map(len, batches)) == parts.plan.num_global(step)
                sizes = [len(part) for part in batches]
                assert max(sizes) - min(sizes) <= 1
                order += [sample for part in batches for sample in part]
            orders.append(order)
    for order in orders:
        if tail == "drop":
            assert len(order) == len(set(order)) == num_samples - num_samples % full
        else:
            assert sorted(order[:num_samples]) == list(range(num_samples))
            assert len(order) == (num_samples if tail == "keep" else -(-num_samples // full) * full)
            assert order[num_samples:] == order[: len(order) - num_samples]
    assert orders[0] != orders[1]
    # The same permutation as one rank alone sees.
    with built(make_config(local_batch_size=full, data=data), SingleCommunicator()) as alone:
        steps = range(alone.plan.steps_per_epoch)
        assert [number[key] for step in steps for key in keys(alone.loader.batch(step).inputs)] == orders[0]


@law(kind=["arrays", "Files"], tail=["drop", "keep"])
def the_ranks_share_one_permutation_of_own_data(comm: Communicator, kind: str, tail: str) -> None:
    """Of arrays and of a Dataset, whose samples have the same noise on whichever rank they are read."""
    given = Given(data={"arrays": arrays, "Files": Files}[kind])
    sizes = {"name": "given", "workers": 0, "tail": tail, "synthetic_train_samples": 4096}
    sizes |= {"synthetic_shape": (1, 28, 28), "synthetic_classes": 10, "synthetic_test_samples": 1024}
    config = make_config(local_batch_size=3, data=sizes)
    whole = assemble(make_config(local_batch_size=3 * comm.size, data=sizes), SingleCommunicator(), given)
    parts = assemble(config, comm, given)
    for step in range(2 * parts.plan.steps_per_epoch):
        batch, expected = parts.loader.batch(step), whole.loader.batch(step)
        found = comm.allgather_object((batch.inputs.cpu(), batch.targets.cpu()))
        assert_bits(torch.cat([inputs for inputs, _ in found]), expected.inputs)
        assert_bits(torch.cat([targets for _, targets in found]), expected.targets)
    for built_parts in (whole, parts):
        built_parts.algorithm.close()
