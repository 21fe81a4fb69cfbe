"""The test cluster itself: jobs are steered as on a real one, and nothing of it survives its owner."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.leftovers import claim, processes
from tests.cluster.slurm_cluster import ROOT, SlurmCluster

# USR1 reaches the rank, which answers with exit code 75; the script then puts its own job back into the queue.
PREEMPTED = """\
#!/bin/bash
#SBATCH --open-mode=append
if [ -n "$SLURM_RESTART_COUNT" ]; then echo "restart $SLURM_RESTART_COUNT"; exit; fi
srun "$1" -c '
import signal, sys
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
print("ready", flush=True)
signal.pause()
'
code=$?
echo "srun ended with $code"
if [ $code = 75 ]; then scontrol requeue "$SLURM_JOB_ID"; sleep 60; fi
"""
OWNER = """\
import sys, time
from pathlib import Path
from tests.cluster.slurm_cluster import SlurmCluster
with SlurmCluster(2, Path(sys.argv[1])) as cluster:
    job = cluster.sbatch(Path(sys.argv[2]))
    cluster.wait_for(job, lambda: "ready" in cluster.output(job))
    print(Path(cluster.environment["SLURM_CONF"]).parent, flush=True)
    time.sleep(600)
"""


def written(path: Path, text: str) -> Path:
    """``path``, with ``text`` in it."""
    path.write_text(text)
    return path


def test_a_job_that_requeues_itself(two_nodes: SlurmCluster, tmp_path: Path) -> None:
    """A signal to the job's steps, the rank's exit code in the script, the restart without Slurm's delay."""
    job = two_nodes.sbatch(written(tmp_path / "job.sbatch", PREEMPTED), sys.executable)
    two_nodes.wait_for(job, lambda: "ready" in two_nodes.output(job))
    two_nodes.signal(job, "USR1")
    two_nodes.restart_now(job)
    assert two_nodes.wait(job) == "COMPLETED"
    output = two_nodes.output(job)
    assert "srun ended with 75" in output
    assert output.endswith("restart 1\n")


def test_requeue_of_an_array_element(two_nodes: SlurmCluster, tmp_path: Path) -> None:
    """Only the element that is meant comes back."""
    text = '#!/bin/bash\nif [ -n "$SLURM_RESTART_COUNT" ]; then exit 3; fi\ntouch "started-$SLURM_ARRAY_TASK_ID"\n'
    job = two_nodes.sbatch(written(tmp_path / "job.sbatch", text + "sleep 60\n"), options=["--array=1-2"])
    for element in (1, 2):
        two_nodes.wait_for(f"{job}_{element}", (tmp_path / f"started-{element}").exists)
    two_nodes.requeue(f"{job}_2")
    assert two_nodes.wait(f"{job}_2") == "FAILED"
    assert two_nodes.exit_code(f"{job}_2") == 3
    assert two_nodes.state(f"{job}_1") == "RUNNING"
    two_nodes.run(["scancel", f"{job}_1"])
    assert two_nodes.wait(f"{job}_1") == "CANCELLED"


def test_a_timeout_tells_what_the_job_did(two_nodes: SlurmCluster, tmp_path: Path) -> None:
    """The job's own output is in the message."""
    job = two_nodes.sbatch(written(tmp_path / "job.sbatch", "#!/bin/bash\necho here I am\nsleep 60\n"))
    two_nodes.wait_for(job, lambda: two_nodes.output(job) != "")
    with pytest.raises(TimeoutError, match="here I am"):
        two_nodes.wait(job, timeout=0.2)
    two_nodes.run(["scancel", job])


def test_nothing_is_left_of_a_killed_session(two_nodes: SlurmCluster, tmp_path: Path) -> None:
    """SIGKILL of the owner leaves daemons and ranks; the next start ends them, and no cluster that is in use."""
    script = written(tmp_path / "job.sbatch", "#!/bin/bash\n#SBATCH --nodes=2\nsrun bash -c 'echo ready; sleep 600'\n")
    words = [sys.executable, "-c", OWNER, str(tmp_path), str(script)]
    options = {"env": two_nodes.environment, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=ROOT, **options) as owner:
        state = Path(owner.stdout.readline().strip())
        owner.send_signal(signal.SIGKILL)
    assert len(processes(state)) > 4
    with claim():
        assert processes(state) == []
        assert not state.exists()
    deadline = time.monotonic() + 30
    while two_nodes.run(["sinfo", "--noheader", "--format=%D"]).stdout.split() != ["2"]:
        assert time.monotonic() < deadline
