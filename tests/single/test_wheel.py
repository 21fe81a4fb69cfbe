"""What pip installs, outside of a checkout."""

from __future__ import annotations

import os
import re
import site
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest

from tests.single.analysis.fake_runs import FakeRun

ROOT = Path(__file__).parents[2]


def build(kind: str, folder: Path) -> Path:
    """The ``wheel`` or the ``sdist`` of the checkout as git has it."""
    source = folder / "source"
    if not source.exists():
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_bytes((ROOT / name).read_bytes())
    program = f"import setuptools.build_meta as b, sys; print(b.build_{kind}(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of an environment that has the wheel, and from this one all that it needs but torch."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    python = place / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-qq", "--no-deps", str(wheel)]
    subprocess.run(command, check=True)
    (library,) = place.glob("lib/python*/site-packages")
    (library / "others.pth").write_text("\n".join(site.getsitepackages()))
    (library / "torch.py").write_text('raise ModuleNotFoundError("No module named torch", name="torch")\n')
    return place / "bin"


def call(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``hpcsgd WORDS`` outside of the checkout."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(installed / "hpcsgd"), *words]
    return subprocess.run(command, cwd=folder, env=outside, capture_output=True, text=True, check=False)


def test_the_wheel_has_all_that_is_used_outside_of_a_checkout(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    there = {re.sub(r"^[^/]*\.data/data/share/hpcsgd/", "", name) for name in names}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    wanted = {"jobs": (".yaml", ".py"), "analysis": (".py", ".j2", ".css", ".js", ".csv"), "slurm": (".toml", ".j2")}
    missing = [
        name
        for name in tracked
        if name.endswith(wanted.get(name.partition("/")[0], ())) and (ROOT / name).is_file() and name not in there
    ]
    assert not missing, missing
    assert not [name for name in there if name.startswith("tests/")]


def test_torch_is_an_extra(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    needs = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    core = [need for need in needs if "extra ==" not in need]
    assert core and not [need for need in core if "torch" in need]
    assert [need for need in needs if need.startswith("torch>=") and 'extra == "train"' in need]


def test_the_source_distribution_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("hpcsgd/")]
    assert needed and not [name for name in needed if name not in names]
    assert {"slurm/job.sbatch.j2", "jobs/demo_sync_sgd.yaml", "analysis/page/report.html.j2"} <= names


def test_all_but_training_works_outside_of_a_checkout_without_torch(installed: Path, tmp_path: Path) -> None:
    run = FakeRun({"forward_seconds": np.ones((4, 2)), "averaging_seconds": np.ones((4, 2))}, ["global"] * 4)
    run.write(tmp_path / "run")
    listed = call(installed, tmp_path, "recipes", "demo")
    assert "demo_local_sgd " in listed.stdout, listed.stderr
    script = call(installed, tmp_path, "submit", "demo_local_sgd", "--site", "lumi", "--nodes", "1", "--account", "p")
    assert "train demo_local_sgd" in script.stdout, script.stderr
    recipe = call(installed, tmp_path, "train", "demo_local_sgd", "--print_config")
    assert "sync_period: 16" in recipe.stdout, recipe.stderr
    assert call(installed, tmp_path, "info", "run").returncode == 0
    drawn = call(installed, tmp_path, "figures", "timing", "run", "--skip", "0", "-o", "figures")
    assert drawn.returncode == 0 and (tmp_path / "figures" / "timing_iteration.png").is_file(), drawn.stderr
    for words, said in [
        (["train", "demo_local_sgd"], "torch is not installed: pip install 'hpcsgd[train]'"),
        (["train", "demo_lokal_sgd"], "did you mean demo_local_sgd?"),
        (["train", "zzz"], "hpcsgd recipes lists"),
        (["figures", "timin"], "did you mean timing?"),
        (["recipes", "nothing"], "no recipe has nothing in its name"),
    ]:
        wrong = call(installed, tmp_path, *words)
        assert wrong.returncode == 2 and said in wrong.stderr and "Traceback" not in wrong.stderr, wrong.stderr
