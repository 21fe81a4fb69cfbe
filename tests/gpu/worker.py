"""The process that goes through the stages; see :mod:`tests.gpu.drive`, which starts it."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path

DEVICE_LOST, GO_ON = 3, 4
"""Exit codes: CUDA does nothing more in this process; the stages that are left want another one."""


def main() -> int:
    """Go through the stages that are asked for; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--end", type=float, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--after")
    options = parser.parse_args()
    pretend = options.device == "pretend"
    if pretend:
        from tests.pretend_gpu.activate import activate

        activate()
    import torch

    from tests.gpu.check import Check, Clock, of_one_process, run_stages
    from tests.gpu.report import Report
    from tests.gpu.stages import STAGES

    names = [stage.name for stage in STAGES]
    unknown = [name for name in options.only if name not in names]
    if unknown:
        print(f"there is no stage {unknown[0]}: choose of {', '.join(names)}", file=sys.stderr)
        return 2
    device = "cuda" if pretend else options.device
    if device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU here: --device cpu rehearses on the CPU", file=sys.stderr)
        return 2
    first = names.index(options.after) + 1 if options.after else 0
    stages = [stage for stage in STAGES[first:] if not options.only or stage.name in options.only]
    place = torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else torch.device("cpu")
    check = Check(place, options.tiny, pretend, Clock(options.end), Report(options.out))
    try:
        run_stages(check, own := of_one_process(stages))
    except RuntimeError:
        traceback.print_exc()
        return DEVICE_LOST
    return GO_ON if len(own) < len(stages) else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of what failed must not hold the machine.
    os._exit(code)
