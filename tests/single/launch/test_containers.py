"""Scripts that run in containers, and the files that images are built by: what can be seen without building one."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from hpcsgd.cli import main
from hpcsgd.launch.site import load_site
from tests.single.launch.fakes import Fakes

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "slurm" / "containers"


def copied(text: str) -> list[str]:
    """What the Containerfile copies."""
    return [word for line in re.findall(r"^COPY (.*) \S+$", text, flags=re.MULTILINE) for word in line.split()]


def test_the_containerfile_copies_what_is_there_and_uses_its_arguments() -> None:
    text = (FOLDER / "Containerfile").read_text()
    instructions = re.findall(r"^([A-Z]+) ", text, flags=re.MULTILINE)
    assert set(instructions) <= {"ARG", "FROM", "COPY", "RUN", "ENV", "WORKDIR", "CMD"}
    assert instructions[:2] == ["ARG", "FROM"] and "\nFROM ${BASE}\n" in text
    for name in re.findall(r"^ARG (\w+)", text, flags=re.MULTILINE):
        assert re.search(rf"\$\{{?{name}\b", text), name
    assert [name for name in copied(text) if not (ROOT / name).exists()] == []


def test_the_definition_is_of_the_same_image() -> None:
    text = (FOLDER / "hpcsgd.def").read_text()
    sections = re.split(r"^%(\w+)\n", text, flags=re.MULTILINE)
    parts = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert set(parts) == {"arguments", "files", "post", "environment", "runscript"}
    containerfile = (FOLDER / "Containerfile").read_text()
    assert [line.split()[0] for line in parts["files"].splitlines() if line] == copied(containerfile)
    arguments = dict(line.split("=") for line in parts["arguments"].split())
    assert f"ARG BASE=docker.io/library/{arguments['BASE']}\n" in containerfile
    assert f"ARG MPI={arguments['MPI']}\n" in containerfile
    used = set(re.findall(r"\{\{ (\w+) \}\}", text))
    assert used == set(arguments)


def test_a_wrong_mpi_is_refused_before_anything_is_installed() -> None:
    done = subprocess.run(["bash", FOLDER / "install", ROOT, "lam"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "install: MPI is lam: it must be openmpi, mpich or base\n")


def test_the_environment_of_alps_is_read() -> None:
    content = tomllib.loads((FOLDER / "alps.edf.toml").read_text())
    assert set(content) == {"image", "mounts", "workdir", "annotations"}


@pytest.mark.parametrize(
    ("site", "before", "launch"),
    [
        ("juwels_booster", "apptainer run --nv --bind=/p my.sif hpcsgd train", "--wait=60)"),
        ("lumi", "singularity run my.sif hpcsgd train", '0x0000fe0000000000")'),
        ("alps", "    hpcsgd train", "-ul --environment=my.sif)"),
        ("perlmutter", "\"--workdir=$PWD\" '--env=OMP_NUM_THREADS'", "--wait=60)"),
    ],
)
def test_the_image_of_the_command_is_started_as_the_site_does(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], site: str, before: str, launch: str
) -> None:
    words = ["--site", site, "--nodes", "1", "--account", "P", "--container", "my.sif"]
    assert main(["submit", "tiny.yaml", *words]) == 0
    script = capsys.readouterr().out
    assert before in script
    assert [line.endswith(launch) for line in script.splitlines() if line.startswith("launch=")] == [True]


def test_podman_is_told_every_variable_that_the_script_sets(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--site", "perlmutter", "--nodes", "1", "--account", "P", "--container", "my"]
    assert main(["submit", "tiny.yaml", *words]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "hpcsgd train" in line)
    for name in (*load_site("perlmutter").exports, "SLURM_*", "HPCSGD_*"):
        assert f"'--env={name}'" in line
    assert line.endswith(" my hpcsgd train tiny.yaml")


def test_a_site_without_containers_says_what_to_do(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "tiny.yaml", "--site", "generic", "--nodes", "1", "--container", "x"]) == 2
    assert "site generic says nothing of containers: set container_runtime" in capsys.readouterr().err
    Path("my.toml").write_text('title = "x"\ntasks_per_node = 1\nimage = "x.sif"\n')
    assert main(["submit", "tiny.yaml", "--site", "my.toml", "--nodes", "1"]) == 2
    assert "image is 'x.sif': it must be left out, or container_runtime set" in capsys.readouterr().err
