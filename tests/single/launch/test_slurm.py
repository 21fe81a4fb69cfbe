"""What is said to Slurm."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpcsgd.errors import UsageError
from hpcsgd.launch.scheduler import time_seconds
from hpcsgd.launch.slurm import SLURM, queued_job
from tests.single.launch.fakes import Fakes

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("1:30:00", 5400),
        ("01:00:00", 3600),
        ("2-12", 216000),
        ("1-0:30", 88200),
        ("1-02:03:04", 93784),
        ("", None),
        ("1h", None),
        ("-5", None),
        ("1:2:3:4", None),
    ],
)
def test_times_as_slurm_writes_them(text: str, seconds: int | None) -> None:
    assert time_seconds(text) == seconds


@pytest.mark.parametrize(
    "printed",
    [
        "55",
        "55;east",
        "Welcome to the cluster (2 notices)\\n55;east\\nsee https://help/3",
        "\\x1b[33mquota: 90 %%\\x1b[0m\\n\\x1b[1m55\\x1b[0m",
        "Quota: \\xff\\xfe\\n55",
        "Submitted batch job 55 on cluster east",
    ],
)
def test_the_id_is_found_in_what_a_site_prints(fakes: Fakes, printed: str) -> None:
    fakes.add("sbatch", f"printf '{printed}\\n'")
    assert SLURM.submit(Path("x.sbatch")) == "55"


def test_an_answer_without_an_id_is_told(fakes: Fakes) -> None:
    fakes.add("sbatch", "echo 'queued for review'")
    with pytest.raises(UsageError, match="gave no id of a job: queued for review; see squeue --me"):
        SLURM.submit(Path("x.sbatch"))


def test_lines_that_are_of_no_job_are_passed_over(fakes: Fakes) -> None:
    lines = ["*** maintenance | tonight ***", "slurm: warning", "12|RUNNING|None", "7|"]
    lines.append("\\x1b[32m13_[4-6%%2]|PENDING|\\xff\\x1b[0m")
    joined = "\\n".join(lines)
    fakes.add("squeue", f"printf '{joined}'")
    assert SLURM.queue() == {
        "12": queued_job("RUNNING", "None"),
        "13_[4-6%2]": queued_job("PENDING", "\ufffd"),
    }


def test_every_variable_of_slurm_stands_in_one_place() -> None:
    pattern = re.compile(r"\b(?:SLURM|SRUN|SBATCH)_[A-Z_]+\b")
    used: dict[str, set[str]] = {}
    for path in [*(ROOT / "slurm").rglob("*.j2"), *(ROOT / "slurm").rglob("*.toml")]:
        used[path.name] = set(pattern.findall(path.read_text()))
    assert set.union(*used.values()) - set(SLURM.variables) == set()
    for path in (ROOT / "hpcsgd" / "launch").glob("*.py"):
        if path.name != "slurm.py":
            assert not pattern.findall(path.read_text()), path
    code = (ROOT / "hpcsgd" / "launch" / "slurm.py").read_text()
    assert {name for name in SLURM.variables if code.count(name) == 1} <= set.union(*used.values())


def test_the_queue_by_job_and_element(fakes: Fakes) -> None:
    fakes.add("squeue", "printf '12|RUNNING|None\\n13_4|PENDING|Resources\\n9|CANCELLED|None\\n'")
    assert SLURM.queue() == {
        "12": queued_job("RUNNING", "None"),
        "13_4": queued_job("PENDING", "Resources"),
        "9": queued_job("CANCELLED", "None"),
    }
    assert "--array" in fakes.calls("squeue")[0]


@pytest.mark.parametrize("body", [None, "echo 'cannot contact slurm controller' >&2; exit 1"])
def test_a_queue_that_does_not_answer(fakes: Fakes, body: str | None) -> None:
    if body is not None:
        fakes.add("squeue", body)
    assert SLURM.queue() is None


def test_accounts_are_optional(fakes: Fakes) -> None:
    assert SLURM.finished(["12"]) == {}
    fakes.add("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert SLURM.finished(["12"]) == {}
    fakes.add("sacct", "printf '12|CANCELLED by 1000|0:15\\n13_1|TIMEOUT|0:0\\n'")
    assert SLURM.finished(["13_1", "12"]) == {
        "12": queued_job("CANCELLED", "0:15"),
        "13_1": queued_job("TIMEOUT", "0:0"),
    }
    assert "--jobs=12,13_1" in fakes.calls("sacct")[-1]
    assert SLURM.finished([]) == {}
    assert len(fakes.calls("sacct")) == 2


def test_a_refusal_is_one_line(fakes: Fakes) -> None:
    with pytest.raises(UsageError, match="there is no sbatch here"):
        SLURM.submit(Path("x.sbatch"))
    fakes.add("sbatch", "printf 'sbatch: error: Batch job submission failed:\\nInvalid account\\n' >&2; exit 1")
    with pytest.raises(UsageError) as refused:
        SLURM.submit(Path("x.sbatch"))
    assert str(refused.value) == "sbatch refused: Batch job submission failed: Invalid account"


def test_a_job_of_a_federation_is_its_number(fakes: Fakes) -> None:
    fakes.add("sbatch", "echo '55;east'")
    assert SLURM.submit(Path("x.sbatch"), ["--array=1"]) == "55"
    assert fakes.calls() == ["sbatch --parsable --array=1 x.sbatch"]
