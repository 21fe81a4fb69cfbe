"""``hpcsgd doctor``: how the launcher has set the ranks up, what is wrong with it, and a small allreduce test."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hpcsgd.comm.abort import abort_on_failure
from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.device import check_not_shared
from hpcsgd.comm.launchers import find_launch, tasks_asked
from hpcsgd.comm.mpi import connect
from hpcsgd.comm.topology import discover
from hpcsgd.config import CommConfig
from hpcsgd.errors import UsageError
from hpcsgd.launch.allreduce import Sample, time_allreduce
from hpcsgd.launch.probes import Facts, collect, try_locks
from hpcsgd.launch.status import columns
from hpcsgd.record.summary import counted

LEAST_CORES = 4
"""Cores of a rank with a GPU: training, autograd, communication and the reader of the data have a thread each."""

CLOCK_ERROR_SECONDS = 1e-3
"""An offset between clocks that is known no better than this blurs waiting times."""


def run_doctor(run_dir: Path, device: str, share_gpu: bool, max_bytes: int) -> int:
    """Examine this job; rank 0 prints. Collective.

    Returns:
        0, or 2 where something is wrong: on all ranks alike.

    Raises:
        UsageError: MPI does not see the ranks that the launcher started, or there is no such directory or device.
    """
    comm = connect(CommConfig())
    with abort_on_failure(comm):
        try:
            text, errors = examine(comm, run_dir, device, share_gpu, max_bytes)
        except UsageError:
            if comm.rank:
                return 2
            raise
    if comm.rank == 0:
        print(text, flush=True)
    return 2 if errors else 0


def examine(
    comm: Communicator, run_dir: Path, device: str, share_gpu: bool, max_bytes: int
) -> tuple[str, Sequence[str]]:
    """The report, and the errors in it. Collective."""
    import torch

    agree(comm, lambda: _check_directory(comm, run_dir))
    places = discover(comm)
    agree(comm, lambda: _check_device(device))
    facts = comm.allgather_object(collect(comm, places[comm.rank], device))
    locks = try_locks(comm, places, run_dir)
    errors = [*wrong(facts, share_gpu=share_gpu)]
    samples: list[Sample] = []
    if comm.size > 1:
        bound = torch.device("cuda", torch.cuda.current_device()) if facts[comm.rank].device != "cpu" else "cpu"
        samples = time_allreduce(comm, torch.device(bound), max_bytes)
        errors += [f"allreduce: wrong sums at {sample.num_bytes} bytes" for sample in samples if not sample.right]
    warnings = [*doubtful(facts), *doubtful_locks(locks, run_dir)]
    lines = [*_ranks(facts), "", *_machine(facts, locks), "", *_allreduce(samples)]
    lines += [f"warning: {text}" for text in warnings] + [f"error: {text}" for text in errors]
    lines.append(f"{counted(len(errors), 'error')}, {counted(len(warnings), 'warning')}")
    return "\n".join(lines), errors


def _check_directory(comm: Communicator, run_dir: Path) -> None:
    """Rank 0 alone writes there."""
    if comm.rank == 0 and not run_dir.is_dir():
        raise UsageError(f"--run_dir: there is no directory {run_dir}")


def _check_device(device: str) -> None:
    """Each rank needs a GPU if GPUs are asked for."""
    import torch

    if device == "cuda" and not torch.cuda.device_count():
        raise UsageError("--device is cuda, but this rank sees no GPU: check CUDA_VISIBLE_DEVICES")


def wrong(facts: Sequence[Facts], *, share_gpu: bool) -> Iterator[str]:
    """What must not be."""
    try:
        check_not_shared([(fact.place.node, fact.device) for fact in facts], share_gpu=share_gpu)
    except UsageError as error:
        yield str(error)
    for name in ("mpi", "versions"):
        found = Counter(getattr(fact, name) for fact in facts)
        if len(found) > 1:
            said = "; ".join(f"{counted(number, 'rank')} {text}" for text, number in found.items())
            yield f"the ranks do not run the same: {said}"
    broken = next((fact for fact in facts if fact.horovod.startswith("!")), None)
    if broken is not None:
        yield f"Horovod (rank {broken.place.rank}): {broken.horovod[1:]}"


def doubtful(facts: Sequence[Facts]) -> Iterator[str]:
    """What may not be meant."""
    asked = tasks_asked()
    if asked is not None and asked[0] > 1 and len(facts) == 1 and find_launch() is None:
        yield f"the job is for {asked[0]} tasks, but this process was started alone: start it by {asked[1]}"
    level = facts[0].thread_level
    if level not in ("", "multiple"):
        yield f"MPI's thread level is {level}, not multiple: set comm.overlap: false, and do not use Horovod"
    sizes = Counter(fact.place.node for fact in facts)
    if len(set(sizes.values())) > 1:
        yield f"nodes have different numbers of ranks: {', '.join(f'{n} on {node}' for node, n in sizes.items())}"
    yield from _crowded(facts)
    yield from _starved(facts)
    idle = next((fact for fact in facts if fact.device != "cpu" and fact.place.local_size < fact.visible_gpus), None)
    if idle is not None:
        yield f"{idle.place.node}: {idle.place.local_size} ranks for {idle.visible_gpus} GPUs: the others stay idle"
    worst = max(facts, key=lambda fact: fact.clock_error)
    if worst.clock_error > CLOCK_ERROR_SECONDS:
        error = 1e3 * worst.clock_error
        yield f"the clock of rank {worst.place.rank} is known to {error:.1f} ms only: waiting times will be blurred"


def _starved(facts: Sequence[Facts]) -> Iterator[str]:
    """Ranks with a GPU and too few cores for the threads that keep it busy; the first of them."""
    sharing = Counter((fact.place.node, fact.cores) for fact in facts)
    for fact in facts:
        ranks = sharing[fact.place.node, fact.cores]
        if fact.device != "cpu" and ranks <= fact.num_cores < LEAST_CORES * ranks:
            yield (
                f"rank {fact.place.rank} has a GPU and {fact.num_cores / ranks:g} core(s): its threads want "
                f"{LEAST_CORES}; start the ranks with --bind-to none, or --map-by ppr:{fact.place.local_size}:node:"
                f"pe={LEAST_CORES} (mpirun), or --cpus-per-task {LEAST_CORES} (srun)"
            )
            return


def _crowded(facts: Sequence[Facts]) -> Iterator[str]:
    """Ranks of a node that are bound to fewer cores than they are."""
    sharing: dict[tuple[str, str], list[Facts]] = defaultdict(list)
    for fact in facts:
        sharing[fact.place.node, fact.cores].append(fact)
    for (node, cores), ranks in sharing.items():
        if len(ranks) > ranks[0].num_cores:
            yield f"{node}: {len(ranks)} ranks share core(s) {cores}: check the launcher's binding"


def doubtful_locks(locks: Mapping[str, Mapping[str, str]], run_dir: Path) -> Iterator[str]:
    """What locks on the run's directory do not do."""
    for kind, by_node in locks.items():
        for node, result in by_node.items():
            if result == "no file":
                yield f"{node} does not see {run_dir}: all nodes must, to resume a run"
            elif result not in ("kept out", "can be taken"):
                what = "does not keep others out" if result == "let in" else f"cannot be taken ({result})"
                yield f"a lock by {kind} in {run_dir} {what} on {node}: set HDF5_USE_FILE_LOCKING=FALSE"


def _ranks(facts: Sequence[Facts]) -> list[str]:
    """The table of ranks."""
    head = ("rank", "host", "node", "local rank", "cores", "OMP threads", "GPUs seen", "device", "clock offset")
    rows = [
        (
            str(fact.place.rank),
            fact.host,
            fact.place.node,
            f"{fact.place.local_rank} of {fact.place.local_size}",
            fact.cores,
            fact.omp_threads or "unset",
            str(fact.visible_gpus),
            fact.device,
            f"{1e6 * fact.clock_offset:+.1f} ± {1e6 * fact.clock_error:.1f} µs",
        )
        for fact in facts
    ]
    return columns([head, *rows])


def _machine(facts: Sequence[Facts], locks: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What the ranks have in common."""
    first = facts[0]
    rows = [
        ("ranks", f"{len(facts)} on {counted(first.place.num_nodes, 'node')}"),
        ("MPI", first.mpi),
        ("allreduce of MPI", first.allreduce),
        ("thread level", first.thread_level or "no MPI"),
        ("GPU buffers to MPI", first.mpi_cuda),
        ("Horovod", first.horovod.removeprefix("!")),
        ("versions", first.versions),
        *(
            (f"lock by {kind}", "; ".join(f"{result} on {node}" for node, result in by_node.items()))
            for kind, by_node in locks.items()
        ),
    ]
    return columns(rows)


def _allreduce(samples: Sequence[Sample]) -> list[str]:
    """The table of the allreduce test."""
    if not samples:
        return ["allreduce: one rank, nothing to sum", ""]
    rows = [
        (
            f"{sample.num_bytes}",
            f"{1e6 * sample.seconds:.1f} µs",
            f"{sample.bytes_per_second / 1e9:.3f} GB/s",
            "right" if sample.right else "WRONG",
        )
        for sample in samples
    ]
    return [*columns([("allreduce, bytes", "median time", "bytes / time", "sums"), *rows]), ""]
