"""A process that writes a run log and says on stdout what it has written: for tests that kill it or read beside it.

Arguments: path, iterations to write, ``exit`` or ``close`` at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

from hpcsgd.record.writer import RunLogWriter
from tests.single.record import log_samples


def main(path: str, num_steps: str, ending: str) -> RunLogWriter:
    """Write iterations one by one, an epoch after every tenth, and acknowledge each."""
    with mock.patch("hpcsgd.record.layout.chunk_shape", log_samples.tiny_chunks):
        writer = log_samples.make_writer(Path(path))
    for step in range(int(num_steps)):
        writer.append_iterations(*log_samples.iterations(step, 1, 2))
        print(f"iterations {step + 1}", flush=True)
        if step % 10 == 9:
            writer.append_epochs(log_samples.table_rows("epochs", step // 10, 1))
            print(f"epochs {step // 10 + 1}", flush=True)
    if ending == "close":
        writer.set_status("completed")
        writer.close()
    return writer


if __name__ == "__main__":
    # Kept where Python's end does not find it, so that a log that is not closed is open to the last.
    sys.kept = main(*sys.argv[1:])
