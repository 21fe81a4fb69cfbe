"""``hpcsgd check RECIPE``: import, build and try what a recipe names, in one process, without MPI or a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.config import AlgorithmConfig, CommConfig, RunConfig
from hpcsgd.config.recipe import check_paths
from hpcsgd.learners.describe import describe
from hpcsgd.run.build import build
from hpcsgd.run.parts import Parts
from hpcsgd.tasks.attempt import MOST_SAMPLES, Attempt
from hpcsgd.tasks.together import try_task


def check(config: RunConfig) -> str:
    """What a run by ``config`` would import, read and compute, a line each.

    Raises:
        UsageError: the first thing that is wrong.
    """
    check_paths(config)
    # What depends on how many ranks there are is the run's to check.
    small = replace(
        config,
        local_batch_size=MOST_SAMPLES,
        global_batch_size=None,
        accumulation_steps=1,
        learners_per_rank=1,
        engine="auto",
        on_failure="abort",
        device="cpu",
        # CPUs have not all kernels of float16.
        precision="bfloat16" if config.precision == "float16" else config.precision,
        compile=False,
        algorithm=AlgorithmConfig(batch_norm_policy=config.algorithm.batch_norm_policy),
        comm=CommConfig(allreduce="mpi"),
    )
    with build(small, SingleCommunicator()) as parts:
        done = parts.tried or try_task(small, parts.task, parts.loader, parts.learners.device)
        assert done is not None, "a batch of the only rank has samples"
        return "\n".join(f"{name:<11}{text}" for name, text in _lines(config, parts, done))


def _lines(config: RunConfig, parts: Parts, done: Attempt) -> Iterator[tuple[str, str]]:
    """Names and texts of the lines."""
    for key, source in parts.imported.items():
        yield "import", f"{key} {source['path']}" + (f" from {source['file']}" if source["file"] else "")
    method = config.algorithm
    yield "model", f"{config.model.name}: {describe(parts.replica, method.batch_norm_policy, method.buffer_policy)}"
    samples = ", ".join(f"{name} {count:,}" for name, count in parts.data["samples"].items())
    yield "data", f"{config.data.name}: samples of {samples}"
    yield "batch", f"inputs {done.inputs}, outputs {done.outputs}, targets {done.targets}"
    yield (
        "loss",
        f"{config.loss.name}: {done.loss:.6g} over {'what is in ' * done.is_weighted}{done.num_samples} samples",
    )
    for name, value in done.metrics.items():
        if name != "loss":
            yield "metric", f"{name}: {value:.6g}"
    if done.unused:
        shown = ", ".join(done.unused[:5]) + (", ..." if len(done.unused) > 5 else "")
        yield "unused", f"no gradient comes to {shown}: in such a step they are only decayed"
    yield "ready", "a run by this recipe can begin"
