"""Commands of a site's, called from here: what they print, whatever letters it has."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hpcsgd.errors import UsageError

TIMEOUT_SECONDS = 60

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(text: str) -> str:
    """``text`` without colours and other commands to a terminal."""
    return ESCAPE.sub("", text)


def ask(command: list[str], fine: Sequence[int] = (0,)) -> str | None:
    """What a command of the site's prints; None where it is not here, fails, or does not answer.

    Args:
        command: the command.
        fine: the exit codes with which it has answered.
    """
    if shutil.which(command[0]) is None:
        return None
    try:
        done = _call(command)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return plain(done.stdout) if done.returncode in fine else None


def run(command: list[str], cwd: Path | None) -> subprocess.CompletedProcess[str]:
    """Run a command of a scheduler's that must work.

    Raises:
        UsageError: it is not here, it refused, or it did not answer.
    """
    try:
        done = _call(command, cwd)
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise UsageError(f"the directory {cwd}, from which the job was first sent, is gone") from error
        raise UsageError(f"there is no {command[0]} here: send the script from a login node of the cluster") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{command[0]} did not answer within {TIMEOUT_SECONDS} s") from error
    if done.returncode:
        said = " ".join(plain(done.stderr or done.stdout).split())
        said = said.removeprefix(f"{command[0]}: ").removeprefix("error: ")
        raise UsageError(f"{command[0]} refused: {said or f'exit code {done.returncode}'}")
    return done


def _call(command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Call a command of the site's, whatever letters it prints."""
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=TIMEOUT_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )
