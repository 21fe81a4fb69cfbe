"""Drive the check: a process goes through the stages, and this one, which needs no torch, looks on.

A stage that hangs, or takes its process along, costs that stage: another process goes on with the next one. At the end
of the time all ends, and what was found until then is the result.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.gpu.report import BAD, LINES, Mark, Row, as_table, read_entry, summary, write_results

ROOT = Path(__file__).resolve().parents[2]
PAUSE_SECONDS = 0.1
LAST_LINES = 15


@dataclass
class Driver:
    """Looks on while workers go through stages.

    Attributes:
        out: folder of the results.
        words: of the worker's command line.
        end: when all ends, by ``time.monotonic``.
        rows: that were found.
        stage: the last one that began.
        limit: when it is taken to hang.
    """

    out: Path
    words: Sequence[str]
    end: float
    rows: list[Row] = field(default_factory=list)
    stage: str = ""
    limit: float = float("inf")
    is_over: bool = True
    _read: int = 0

    def run(self) -> int:
        """Go through all stages; 2 where there is nothing to begin with, 1 where something is bad."""
        (self.out / LINES).unlink(missing_ok=True)
        while True:
            before = self.stage
            code = self._watch()
            if code == 0 or time.monotonic() >= self.end:
                break
            if self.stage == before and self.is_over:
                # Not even the next stage has begun.
                return 2 if code == 2 else self._broken(code)
            if not self.is_over:
                self._say(Row(self.stage, "the stage", {}, "failed", _told(code)))
        return int(any(row.verdict in BAD for row in self.rows))

    def _broken(self, code: int) -> int:
        self._say(Row("start", "a process for the stages", {}, "failed", _told(code)))
        return 1

    def _watch(self) -> int:
        """Start a worker after the last stage that began, and look on to its end; its exit code."""
        command = [sys.executable, "-m", "tests.gpu.worker", str(self.out), f"--end={self.end}", *self.words]
        if self.stage:
            command.append(f"--after={self.stage}")
        self.limit = self.end
        with (self.out / "log.txt").open("a") as log:
            worker = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            while worker.poll() is None:
                time.sleep(PAUSE_SECONDS)
                self._take()
                if time.monotonic() >= min(self.limit, self.end):
                    self._stop()
                    break
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            code = worker.wait()
            self._take()
        return code

    def _stop(self) -> None:
        """Say why the present stage does not go on."""
        if time.monotonic() >= self.end:
            self._say(Row(self.stage, "the rest", {}, "left out", "the time is over"))
        else:
            self._say(Row(self.stage, "the stage", {}, "failed", "it hung"))
        self.is_over = True

    def _take(self) -> None:
        """Take what was added to the file; a line that is not whole yet is for the next time."""
        path = self.out / LINES
        if not path.exists():
            return
        with path.open() as lines:
            lines.seek(self._read)
            text = lines.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole.encode())
        for line in whole.splitlines():
            entry = read_entry(line)
            if isinstance(entry, Row):
                self._say(entry)
            else:
                self._mark(entry)

    def _mark(self, mark: Mark) -> None:
        """A stage begins or ends."""
        self.is_over = mark.mark == "end"
        self.stage = mark.stage
        self.limit = self.end if self.is_over else time.monotonic() + mark.seconds
        if self.is_over:
            print(f"--- {mark.stage}: {mark.seconds:.1f} s", flush=True)

    def _say(self, row: Row) -> None:
        """Keep a row, and show it."""
        self.rows.append(row)
        print("  ".join(filter(None, row.cells())), flush=True)


def _told(code: int) -> str:
    """How a worker ended."""
    return f"its process ended by signal {-code}" if code < 0 else f"its process ended with code {code}"


def drive(out: Path, words: Sequence[str], seconds: float) -> int:
    """Go through the check, show the table, and keep it in ``out``; the exit code.

    Args:
        out: a folder, which is made.
        words: of the worker's command line.
        seconds: that there are for everything.
    """
    begin = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    (out / "log.txt").unlink(missing_ok=True)
    driver, code = Driver(out.resolve(), words, begin + seconds), 1
    try:
        code = driver.run()
    finally:
        taken = time.monotonic() - begin
        if driver.rows:
            table = write_results(out, driver.rows, taken, {"command": f"python -m tests.gpu {' '.join(words)}"})
            print(f"\n{as_table(driver.rows)}\n\n{summary(driver.rows, taken)}; kept in {table} and its .json")
        if code:
            last = (out / "log.txt").read_text().splitlines()[-LAST_LINES:] if (out / "log.txt").exists() else []
            print("--- the end of log.txt", *last, sep="\n", file=sys.stderr)
    return code
