"""The GPU check: ``python -m tests.gpu``, or ``make gpu-check``; see ``results/README.md``.

One command for a machine with torch and no network. It answers whether the package is right and fast on the GPU that is
there, and keeps to its time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.gpu import bare
from tests.gpu.drive import ROOT, drive

SECONDS = 520.0


def main() -> int:
    """Run the check; 0 where all is as it should be, 1 where something is wrong, 2 where it cannot begin."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs/gpu-check", help="folder of the results")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that there are for everything")
    parser.add_argument("--device", choices=["cuda", "cpu", "pretend"], help="unset, cuda; cpu with --tiny")
    parser.add_argument("--tiny", action="store_true", help="sizes for a rehearsal")
    parser.add_argument("--only", nargs="+", default=[], metavar="STAGE", help="these stages alone")
    parser.add_argument(
        "--wheels", type=Path, default=ROOT / ".cache/wheels", help="folder of wheels that may be missing"
    )
    parser.add_argument("--fetch", metavar="PYTHON", help="only fill that folder, for this version of Python (3.12)")
    options = parser.parse_args()
    if options.fetch:
        return bare.fetch(options.wheels, options.fetch)
    bare.go_on_with(options.wheels)
    device = options.device or ("cpu" if options.tiny else "cuda")
    words = [f"--device={device}", *(["--tiny"] if options.tiny else [])]
    return drive(options.out, [*words, *(["--only", *options.only] if options.only else [])], options.seconds)


if __name__ == "__main__":
    sys.exit(main())
