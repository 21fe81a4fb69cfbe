"""``hpcsgd scale`` without Slurm, for real: from a recipe to the scaling figure by two commands; on after a kill."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h5py
import pandas as pd

from hpcsgd.record import load_run
from tests.parallel.ranks import ROOT, SYNTHETIC, TIMEOUT_SECONDS, environment

KEYS = {**SYNTHETIC, "max_steps": "50", "checkpoint.every_steps": "20", "comm.allreduce": "mpi", "progress": "none"}


def call(programs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with ``words`` in one process."""
    return subprocess.run(
        [str(programs / "python"), *words],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def scale(programs: Path, recipe: Path, study: Path) -> subprocess.CompletedProcess[str]:
    """The study of one and two ranks."""
    return call(
        programs, "-m", "hpcsgd", "scale", str(recipe), "--gpus", "1,2", "--launcher", "mpirun", "-o", str(study)
    )


def killed(run_dir: Path) -> None:
    """Leave a run as a kill after its last checkpoint but one does."""
    (run_dir / "model.pt").unlink()
    shutil.rmtree(max((run_dir / "checkpoints").glob("step-*")))
    with h5py.File(run_dir / "run.h5", "r+") as log:
        log["status"][()] = b"running".ljust(log["status"].dtype.itemsize)


def test_from_a_recipe_to_the_figure(tmp_path: Path, warm_programs: Path) -> None:
    recipe, study = tmp_path / "tiny.yaml", tmp_path / "study"
    recipe.write_text("".join(f"{key}: {value}\n" for key, value in nested(KEYS).items()))
    done = scale(warm_programs, recipe, study)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"figure and table: hpcsgd figures scaling {study}"

    killed(study / "gpus-2")
    again = scale(warm_programs, recipe, study)
    assert again.returncode == 0, again.stderr
    assert f"{study / 'gpus-1'}: finished already" in again.stdout
    run = load_run(study / "gpus-2")
    assert run.status == "completed"
    assert run.segments["first_step"].tolist() == [0, 40]
    assert run.iterations["step"].nunique() == 50

    drawn = call(warm_programs, "analysis/scaling.py", str(study))
    assert drawn.returncode == 0, drawn.stderr
    assert "gpus-2: it was resumed at step 40." in drawn.stderr
    assert (study / "figures" / "scaling_strong.png").read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(study / "figures" / "scaling_strong.csv")
    assert table["num_ranks"].tolist() == [1, 2]
    assert table["global_batch_size"].tolist() == [4, 4]
    assert table["speedup"].iloc[0] == 1 and table["speedup"].iloc[1] > 0
    assert table["exposed_share"].between(0, 1).all()
    assert (table["wait_share"] <= table["exposed_share"]).all()


def nested(keys: dict[str, str]) -> dict[str, str]:
    """Dotted keys as the sections of a recipe, in YAML's flow style."""
    sections: dict[str, list[str]] = {}
    for key, value in keys.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, []).append(f"{name}: {value}" if name else value)
    return {key: parts[0] if key in keys else "{" + ", ".join(parts) + "}" for key, parts in sections.items()}
