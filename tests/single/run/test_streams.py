"""Standard streams that end no command, each case in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
START = "import sys, os\nfrom hpcsgd.run import streams\n"


def call(body: str, redirections: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A command with ``body`` in place of its function, which gives ``code``, by a shell with ``redirections``."""
    program = f"{START}def function():\n    code = 0\n    {body}\n    return code\nsys.exit(streams.command(function))"
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; {sys.executable} -c "$1" {redirections}', "bash", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        check=False,
    )


MANY = "[print('line', n, flush=n % 2 == 0) for n in range(20000)]"


@pytest.mark.parametrize(
    ("body", "redirections", "out"),
    [
        (MANY, "| head -1", b"line 0\n"),
        (MANY.replace(", flush", ", file=sys.stderr, flush"), "2>&1 >/dev/null | head -1", b"line 0\n"),
        ("import threading; t = threading.Thread(target=lambda: " + MANY + "); t.start(); t.join()", "| head -1",
         b"line 0\n"),
        ("while not streams.is_lost(): print('line 0', flush=True)", "| head -1", b"line 0\n"),
        ("sys.stdout.write('x' * 10)", "| true", b""),
        ("sys.stderr.write('x')", "2>&-", b""),
        ("print('kept'); print('lost', file=sys.stderr)", "2>&-", b"kept\n"),
        ("print('lost')", ">&-", b""),
        ("print(sys.stdin.read(), file=sys.stdout)", "<&-", b"\n"),
        ("print('lost', file=sys.stderr)", "2>/dev/full", b""),
    ],
)  # fmt: skip
def test_a_stream_that_cannot_be_written_ends_nothing(body: str, redirections: str, out: bytes) -> None:
    done = call(body, redirections)
    assert (done.returncode, done.stdout, done.stderr) == (0, out, b"")


@pytest.mark.parametrize(("code", "expected"), [(0, 1), (75, 75)])
def test_output_lost_on_a_full_disk_is_said(code: int, expected: int) -> None:
    done = call(f"print('lost'); code = {code}", ">/dev/full")
    assert done.returncode == expected
    assert done.stderr == b"hpcsgd: cannot write the output: No space left on device\n"


def test_no_file_gets_the_number_of_a_closed_stream() -> None:
    body = "print(os.open(os.devnull, os.O_RDONLY) > 2, file=sys.stdout)"
    assert call(body, "<&- 2>&-").stdout == b"True\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_letters_that_there_are_not_are_escaped(encoding: str) -> None:
    done = call("print('3 \\u00b5s \\u2713'); print(os.fsdecode(b'run-\\xff'))", PYTHONIOENCODING=encoding)
    shown = "3 \u00b5s \u2713".encode(encoding, "backslashreplace")
    assert (done.returncode, done.stdout) == (0, shown + b"\nrun-\xff\n")


def test_ctrl_c_ends_a_command_without_a_word() -> None:
    done = call(f"os.kill(os.getpid(), {int(signal.SIGINT)})", "; exit $?")
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, b"", b"")


def test_a_callers_streams_are_his_own_again_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    body = "before = sys.stdout\n    with streams.safe(): pass\n    print(sys.stdout is before)"
    assert call(body).stdout == b"True\n"
    program = f"{START}a = sys.stdout\nwith streams.safe(): print(sys.stdout is a)\nprint(sys.stdout is a)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "False\nTrue\n"
