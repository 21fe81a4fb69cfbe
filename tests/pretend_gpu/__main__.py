"""The table of all configurations: ``python -m tests.pretend_gpu [--sample] [--json FILE] [NAME ...]``.

Under ``mpirun -n 2`` it is that of the configurations of two ranks. The exit code is 1 where a row is wrong that
should not be, or right though a defect is planted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.pretend_gpu.activate import activate

if TYPE_CHECKING:
    from tests.pretend_gpu.compare import Row

MPI_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def main() -> int:
    """Run cases and mutations, and show what came of them."""
    options = arguments()
    activate()
    import torch

    from tests.pretend_gpu.cases import CASES
    from tests.pretend_gpu.compare import run_case
    from tests.pretend_gpu.mutations import MUTATIONS, run_mutation
    from tests.pretend_gpu.ranks import let_mpi_see_the_device
    from tests.pretend_gpu.studies import FUSED, run_study

    torch.set_num_threads(1)
    under_mpirun = any(name in os.environ for name in MPI_VARIABLES)
    let_mpi_see_the_device()

    def is_asked(name: str, sampled: bool) -> bool:
        return name in options.names if options.names else sampled or not options.sample

    with tempfile.TemporaryDirectory() as folder:
        for case in CASES.values():
            if is_asked(case.name, case.sampled) and under_mpirun == case.is_of_mpi:
                tell(options.json, run_case(case, Path(folder)), "")
        for name in FUSED:
            if is_asked(name, name == "study") and not under_mpirun:
                tell(options.json, run_study(name), "")
        for mutation in MUTATIONS:
            if is_asked(mutation.name, mutation.sampled) and not under_mpirun:
                tell(options.json, run_mutation(mutation, Path(folder)), "planted")
    if under_mpirun:
        from tests.pretend_gpu.laws import SAMPLE, Laws, names

        laws = Laws()
        for name in names():
            if is_asked(name, name in SAMPLE):
                tell(options.json, laws.run(name), "")
    return int(tell.failed)


def arguments() -> argparse.Namespace:
    """The command's."""
    parser = argparse.ArgumentParser(prog="python -m tests.pretend_gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of configurations and planted defects; unset, all")
    parser.add_argument("--sample", action="store_true", help="those that the tests take")
    parser.add_argument("--json", type=Path, help="append the rows to this file, a line each")
    return parser.parse_args()


class _Teller:
    """Shows rows, and remembers whether one is not as it should be."""

    failed = False

    def __call__(self, file: Path | None, row: Row, known: str) -> None:
        """Show ``row``, and keep it in ``file``; ``known``: why it is wrong, if it is to be."""
        row = _of_all_ranks(row)
        if row is None:
            return
        as_expected = bool(row.wrong) == bool(known)
        self.failed |= not as_expected
        verdict = "; ".join(row.wrong) or "ok"
        note = f"   [{'known: ' if as_expected else 'NOT AS KNOWN: '}{known}]" if known else ""
        print(
            f"{row.name:28s} difference {row.difference:8.1e}   a step: {row.launches:4d} launches {row.events:3d} "
            f"events {row.waits:3d} waits   races {row.races:4d}   foreign {row.foreign:4d}   {verdict}{note}",
            flush=True,
        )
        if not as_expected:
            print(*(f"      {line}" for line in row.seen), sep="\n", flush=True)
        if file is not None:
            with file.open("a") as lines:
                lines.write(json.dumps(row.as_dict()) + "\n")


tell = _Teller()


def _of_all_ranks(row: Row) -> Row | None:
    """The row with what was found on any rank, on the first one; None elsewhere."""
    if not any(name in os.environ for name in MPI_VARIABLES):
        return row
    from mpi4py import MPI

    rows = MPI.COMM_WORLD.gather(row)
    if rows is None:
        return None
    for other in rows[1:]:
        row.difference = max(row.difference, other.difference)
        row.races, row.foreign = row.races + other.races, row.foreign + other.foreign
        row.wrong += [f"rank 1: {text}" for text in other.wrong]
        row.seen += other.seen
    return row


if __name__ == "__main__":
    sys.exit(main())
