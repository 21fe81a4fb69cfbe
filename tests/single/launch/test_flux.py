"""What is said to Flux, and what its answers mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcsgd.cli import main
from hpcsgd.errors import UsageError
from hpcsgd.launch.flux import FLUX
from tests.single.launch.fakes import Fakes

HERE = ["--site", "generic_flux"]
JOBS = """ƒM7Zq9AKHno|RUN|
fABC|SCHED|
ƒ2|COMPLETED|
ƒ3|CANCELED|killed by user
ƒ4|TIMEOUT|resource allocation expired
flux-jobs: warning
"""


@pytest.mark.parametrize("printed", ["ƒM7Zq9AKHno", "fM7Zq9AKHno", "notice: 3 nodes down\\nƒM7Zq9AKHno"])
def test_the_id_is_kept_in_letters_of_every_alphabet(fakes: Fakes, printed: str) -> None:
    fakes.add("flux", f"printf '{printed}\\n'")
    assert FLUX.submit(Path("x.flux"), FLUX.after("f2")) == "fM7Zq9AKHno"
    assert fakes.calls() == ["flux batch --dependency=afterany:f2 x.flux"]


def test_refusals_are_one_line(fakes: Fakes) -> None:
    with pytest.raises(UsageError, match="there is no flux here"):
        FLUX.submit(Path("x.flux"))
    fakes.add("flux", "echo 'flux-batch: ERROR: unknown queue' >&2; exit 1")
    with pytest.raises(UsageError, match="flux refused: flux-batch: ERROR: unknown queue"):
        FLUX.submit(Path("x.flux"))
    fakes.add("flux", "echo 0x12")
    with pytest.raises(UsageError, match="gave no id of a job: 0x12; see flux jobs"):
        FLUX.submit(Path("x.flux"))


def test_states_of_jobs(fakes: Fakes) -> None:
    assert FLUX.queue([]) is None
    fakes.add("flux", f"cat <<'E'\n{JOBS}E")
    assert {job: (state.phase, state.ending, state.reason) for job, state in (FLUX.queue([]) or {}).items()} == {
        "fM7Zq9AKHno": ("running", "Flux: RUN", ""),
        "fABC": ("waiting", "Flux: SCHED", ""),
        "f2": ("completed", "", ""),
        "f3": ("cancelled", "Flux: CANCELED", "killed by user"),
        "f4": ("ended", "Flux: TIMEOUT", "resource allocation expired"),
    }


def test_a_sweep_is_a_job_a_run(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.add("flux", f'echo "ƒ$(($(wc -l < {fakes.directory}/calls) + 1))"')
    words = ["sweep", "tiny.yaml", *HERE, "--tasks_per_node", "2", "--seeds", "2", "-o", "s"]
    assert main([*words, "--max_running", "1"]) == 2
    assert "--max_running is of arrays, which Flux has not" in capsys.readouterr().err
    assert main([*words, "--submit"]) == 0
    assert fakes.calls() == ["flux batch s/seed-0.flux", "flux batch s/seed-1.flux"]
    jobs = json.loads(Path("s/jobs.json").read_text())["jobs"]
    assert jobs == [
        {"run": f"seed-{seed}", "script": f"seed-{seed}.flux", "task": None, "ids": [f"f{seed + 2}"]} for seed in (0, 1)
    ]
    script = Path("s/seed-1.flux").read_text()
    assert "hpcsgd train tiny.yaml --seed=1\n" in script and "run_dir=s/seed-1\n" in script
    assert "#flux: --output=s/seed-1-{{id}}.out\n" in script
    assert "#flux: --nodes=1\n#flux: --nslots=2\n" in script


def test_check_reads_the_script_only(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.add("flux")
    assert main(["submit", "tiny.yaml", *HERE, "--nodes", "1", "--check"]) == 0
    assert "tiny.flux: flux batch can read it; whether a queue takes it" in capsys.readouterr().out
    assert fakes.calls()[0].startswith("flux batch --dry-run ")


def test_each_rank_has_a_gpu_of_its_own_where_the_site_says_so(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Path("my.toml").write_text(
        'title = "x"\nscheduler = "flux"\nlauncher = "flux"\ntasks_per_node = 2\ngpus_per_node = 2\ncpus_per_task = 3\n'
        'gpu_visibility = "per-task"\ncpu_bind = "per-task"\nsignal_seconds = 60\nconstraint = "host:n1"\n'
    )
    assert main(["submit", "tiny.yaml", "--site", "my.toml", "--nodes", "2"]) == 0
    script = capsys.readouterr().out
    assert (
        "launch=(flux run --nodes=2 --ntasks=4 --cores-per-task=3 --gpus-per-task=1 --setopt=gpu-affinity=per-task "
        "--setopt=cpu-affinity=per-task --setopt=exit-timeout=60s --signal=USR1@60s)\n"
    ) in script
    assert "#flux: --requires=host:n1\n" in script and "#flux: --gpus-per-slot=1\n" in script
    assert main(["submit", "--doctor", "--site", "my.toml", "--nodes", "2"]) == 0
    assert "--signal" not in capsys.readouterr().out
