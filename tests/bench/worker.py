"""The ranks of one benchmark: ``mpirun -n 2 python worker.py NAME CSV SECONDS`` times its variants into a file."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from averaging import Shape, fully_connected_shapes, resnet50_shapes
from averaging import variants as averaging_variants
from interleave import Variant, interleave
from learners import Shape as ImageShape
from learners import variants as learner_variants
from optimizer import variants as optimizer_variants
from own import timer_variants
from sma import variants as sma_variants
from training import Bench, recipe
from wires import variants as wire_variants

from hpcsgd.comm.abort import abort_on_failure
from hpcsgd.comm.mpi import MpiCommunicator, connect
from hpcsgd.config import CommConfig, ModelConfig

SMALL = ModelConfig(widths=(256, 256))
LARGE = ModelConfig(widths=(1024, 1024))
CNN = ModelConfig(name="simple_cnn_base")
FOREVER = 10**9

SHAPES: dict[str, list[Shape]] = {
    "averaging_1mb": fully_connected_shapes(784, 256, 256, 10),
    "averaging_102mb": resnet50_shapes(),
    "averaging_1mb_4_ranks": fully_connected_shapes(784, 256, 256, 10),
    "averaging_102mb_4_ranks": resnet50_shapes(),
}
WIRES: dict[str, list[Shape]] = {
    "wires_1mb": SHAPES["averaging_1mb"],
    "wires_102mb": SHAPES["averaging_102mb"],
}
SYNC = {"sync_small": (SMALL, 20), "sync_large": (LARGE, 10), "sync_cnn": (CNN, 2)}
LOCAL = {"local_small": (SMALL, 64), "local_large": (LARGE, 16)}
FAULTS = {"faults_small": (SMALL, 100), "faults_large": (LARGE, 20), "faults_cnn": (CNN, 4)}
LEARNERS: dict[str, tuple[ModelConfig, ImageShape, int, int, int]] = {
    "learners_64": (ModelConfig(widths=(64,)), (1, 28, 28), 16, 8, 20),
    "learners_256": (ModelConfig(widths=(256, 256)), (1, 28, 28), 16, 8, 10),
    "learners_1024": (ModelConfig(widths=(1024,)), (1, 28, 28), 16, 8, 5),
    "learners_resnet_4x1": (ModelConfig(name="resnet20"), (3, 32, 32), 4, 1, 4),
    "learners_resnet_8x2": (ModelConfig(name="resnet20"), (3, 32, 32), 8, 2, 2),
    "learners_resnet_4x8": (ModelConfig(name="resnet20"), (3, 32, 32), 4, 8, 2),
}
"""Model, images, learners, batch, steps of a repetition."""
UPDATES = {"sma_update": (ModelConfig(name="resnet20"), 4)}
OPTIMIZERS: dict[str, tuple[ModelConfig, ImageShape, int]] = {
    "adamw_small": (ModelConfig(widths=(256, 256)), (1, 28, 28), 50),
    "adamw_resnet": (ModelConfig(name="resnet20"), (3, 32, 32), 50),
}
"""Model, images, steps of a repetition."""
LOGGING = {"logging_small": (SMALL, 100)}
STEPS_OF_A_SECOND = 400
"""Of its steps, which take some 2.5 ms: what lies between two gathers by default."""
OWN = {
    "own_small": (SMALL, ModelConfig(name="own.network", init_args={"widths": [256, 256]}), 100),
    "own_large": (LARGE, ModelConfig(name="own.network", init_args={"widths": [1024, 1024]}), 20),
}
"""A network of the package, the same by import path, steps of a repetition."""
TIMER = {"timer": ((640, 640), 40)}
"""Widths that make a step of some 5 ms, steps of a repetition."""
LANES = 4
"""Loops of one variant: where its memory happens to lie makes a loop up to 3 % faster or slower for good."""


def make(name: str, comm: MpiCommunicator, directory: Path) -> list[Variant]:
    """The variants of the benchmark ``name``. Collective."""
    if name in SHAPES:
        return list(averaging_variants(comm, SHAPES[name], peers=comm.size == 2))
    if name in WIRES:
        return list(wire_variants(comm, WIRES[name]))
    if name in LEARNERS:
        return list(learner_variants(*LEARNERS[name]))
    if name in UPDATES:
        return list(sma_variants(*UPDATES[name], comm))
    if name in TIMER:
        return list(timer_variants(directory, *TIMER[name]))
    if name in OPTIMIZERS:
        return list(optimizer_variants(*OPTIMIZERS[name]))
    if name in SYNC:
        model, block = SYNC[name]
        bench = Bench(comm, directory, model, block, warm_steps=3)
        bench.ours("ours, horovod", recipe(model, allreduce="horovod"))
        bench.ours("ours, mpi", recipe(model, allreduce="mpi"))
        bench.ours("ours, torch", recipe(model, allreduce="torch"))
        bench.theirs_horovod()
        bench.theirs_ddp()
        bench.check_equal()
    elif name in LOCAL:
        model, block = LOCAL[name]
        bench = Bench(comm, directory, model, block)
        bench.ours("H = 16", recipe(model, sync_period=16))
        bench.ours("no communication", recipe(model, sync_period=FOREVER))
    elif name in FAULTS:
        model, block = FAULTS[name]
        bench = Bench(comm, directory, model, block)
        return [variant for _ in range(LANES) for variant in bench.switched(recipe(model, allreduce="mpi"))]
    elif name in OWN:
        model, own, block = OWN[name]
        bench = Bench(comm, directory, model, block)
        for _ in range(LANES):
            bench.ours("import path", recipe(own, allreduce="mpi"))
            bench.ours("built in", recipe(model, allreduce="mpi"))
            bench.ours("built in again", recipe(model, allreduce="mpi"))
        bench.check_equal()
    else:
        model, block = LOGGING[name]
        bench = Bench(comm, directory, model, block)
        for _ in range(LANES):
            for variant in ("log on", "log off", "log off again"):
                is_on = variant == "log on"
                bench.ours(variant, recipe(model, log=is_on, allreduce="mpi", flush_steps=STEPS_OF_A_SECOND))
    return list(bench.lanes)


def main() -> None:
    """Time one benchmark."""
    name, path, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    comm = connect(CommConfig())
    assert isinstance(comm, MpiCommunicator), "start it by mpirun: tests/bench/run.py does"
    with abort_on_failure(comm), tempfile.TemporaryDirectory() as directory:
        shared = Path(comm.broadcast_object(directory))
        interleave(comm, make(name, comm, shared), seconds, path)


if __name__ == "__main__":
    main()
