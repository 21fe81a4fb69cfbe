"""Where a run comes from: the values collected, on made-up environments and repositories."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import hpcsgd
from hpcsgd.record import provenance


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_everything_is_there_and_json_can_hold_it() -> None:
    found = provenance.collect(["hpcsgd", "train", "x.yaml"], {"epochs": 3})
    assert json.loads(json.dumps(found)) == found
    assert found["config"] == {"epochs": 3}
    assert found["argv"] == ["hpcsgd", "train", "x.yaml"]
    started = datetime.fromisoformat(str(found["started"]))
    assert timedelta(0) <= datetime.now(UTC) - started < timedelta(minutes=1)
    assert set(found) >= {"git_commit", "job", "versions", "platform", "host", "cpu", "slurm", "environment"}


def test_versions_of_what_is_and_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    found = provenance.versions()
    assert found["hpcsgd"] == hpcsgd.__version__
    assert found["numpy"] == __import__("numpy").__version__
    assert found["no-such-package"] is None


def test_the_commit_of_a_checkout(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    assert provenance.git_commit(package) is None
    git(tmp_path, "init", "-q")
    (package / "a.py").write_text("a = 1\n")
    assert provenance.git_commit(package) is None, "not tracked: an installed package inside of someone's repository"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert provenance.git_commit(package) == commit
    (tmp_path / "notes.txt").write_text("beside the code\n")
    assert provenance.git_commit(package) == commit
    (package / "a.py").write_text("a = 2\n")
    assert provenance.git_commit(package) == commit + "-dirty"
    (package / "a.py").write_text("a = 1\n")
    (package / "b.py").write_text("b = 1\n")
    assert provenance.git_commit(package) == commit + "-dirty"


def test_a_machine_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_commit(Path(hpcsgd.__file__).parent) is None


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "12"}, "12"),
        ({"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}, "12_3"),
        ({"PBS_JOBID": "1234.polaris-pbs-01.hsn.cm"}, "1234"),
        ({"PBS_JOBID": "1234[5].polaris-pbs-01"}, "1234[5]"),
        ({"FLUX_JOB_ID": "ƒ3x"}, "ƒ3x"),
        # Flux inside of a job of Slurm's, and flux run's own job inside of the script's.
        ({"HPCSGD_JOB": "fM7Z", "FLUX_JOB_ID": "ƒ3x", "SLURM_JOB_ID": "12"}, "fM7Z"),
    ],
)
def test_the_job_of_a_scheduler(environment: dict[str, str], job: str | None) -> None:
    assert provenance.scheduler_job(environment) == job


def test_variables_are_picked_and_secrets_are_not() -> None:
    environment = {
        "SLURM_JOB_ID": "1",
        "SLURMD_NODENAME": "n1",
        "SLURM_JWT": "secret",
        "OMP_NUM_THREADS": "1",
        "OMPI_MCA_coll": "^hcoll",
        "HOROVOD_CYCLE_TIME": "1",
        "NCCL_DEBUG": "INFO",
        "API_TOKEN": "secret",
        "HOME": "/home/a",
    }
    assert provenance.slurm_variables(environment) == {"SLURM_JOB_ID": "1", "SLURMD_NODENAME": "n1"}
    assert provenance.environment_variables(environment) == {
        "HOROVOD_CYCLE_TIME": "1",
        "NCCL_DEBUG": "INFO",
        "OMPI_MCA_coll": "^hcoll",
        "OMP_NUM_THREADS": "1",
    }


def test_the_name_of_the_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast: 3000\nmodel name\t: other\n")
    assert provenance.cpu_model(tmp_path / "cpuinfo") == "Fast: 3000"
    assert provenance.cpu_model(tmp_path / "missing") == (__import__("platform").processor() or None)
