"""What starts the ranks of a job: the words of each launcher, and how the signal to save gets to its ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpcsgd.launch.shell import expanded
from hpcsgd.launch.site import SiteProfile


@dataclass(frozen=True)
class Size:
    """How many ranks there are, and what they are to be given.

    Attributes:
        nodes, tasks_per_node: nodes, and ranks on each.
        per_task: each rank is shown one GPU only.
        signal_seconds: how long before the time limit they are told to save; None for never.
    """

    nodes: int
    tasks_per_node: int
    per_task: bool
    signal_seconds: int | None = None

    @property
    def ranks(self) -> int:
        """All of them."""
        return self.nodes * self.tasks_per_node


@dataclass(frozen=True)
class Launcher:
    """One launcher.

    Attributes:
        words: its command up to the ranks' own, as words of a shell.
        shows_one_gpu: it can show each rank one GPU only.
        gets_signal: the scheduler sends the signal to its ranks; else to the script's shell, which passes it on.
        is_script: it may be a script of a shell, which a signal would end: it is started so that it ignores the signal,
            and its whole group of processes gets it.
    """

    words: Callable[[SiteProfile, Size], list[str]]
    shows_one_gpu: bool = False
    gets_signal: bool = False
    is_script: bool = False


def _words(words: Sequence[str]) -> list[str]:
    """Options of a site, in which variables are replaced."""
    return [expanded(word) for word in words]


def _srun(site: SiteProfile, size: Size) -> list[str]:
    words = ["srun", "--kill-on-bad-exit=1", "--wait=60"]
    words += [expanded(f"--cpu-bind={site.cpu_bind}")] if site.cpu_bind else []
    words += ["--gpus-per-task=1"] if size.per_task else []
    return words + _words(site.srun_options)


def _mpirun(site: SiteProfile, size: Size) -> list[str]:
    return ["mpirun", "-n", str(size.ranks), *_words(site.mpirun_options)]


def _mpiexec(site: SiteProfile, size: Size) -> list[str]:
    words = ["mpiexec", "-n", str(size.ranks), "-ppn", str(size.tasks_per_node)]
    words += ["--hostfile", '"$PBS_NODEFILE"'] if site.scheduler == "pbs" else []
    words += [expanded(f"--cpu-bind={site.cpu_bind}")] if site.cpu_bind else []
    return words + _words(site.mpiexec_options)


def _flux(site: SiteProfile, size: Size) -> list[str]:
    words = ["flux", "run", f"--nodes={size.nodes}", f"--ntasks={size.ranks}"]
    words += [f"--cores-per-task={site.cpus_per_task}"] if site.cpus_per_task else []
    words += ["--gpus-per-task=1"] if site.gpus_per_node and site.gpu_request != "none" else []
    words += ["--setopt=gpu-affinity=per-task"] if size.per_task else []
    words += [expanded(f"--setopt=cpu-affinity={site.cpu_bind}")] if site.cpu_bind else []
    words += ["--setopt=exit-timeout=60s"]
    words += [f"--signal=USR1@{size.signal_seconds}s"] if size.signal_seconds else []
    return words + _words(site.flux_run_options)


def _ibrun(site: SiteProfile, size: Size) -> list[str]:
    return ["ibrun", *_words(site.ibrun_options)]


LAUNCHERS = {
    "srun": Launcher(_srun, shows_one_gpu=True, gets_signal=True),
    "mpirun": Launcher(_mpirun),
    "mpiexec": Launcher(_mpiexec),
    "flux": Launcher(_flux, shows_one_gpu=True, gets_signal=True),
    "ibrun": Launcher(_ibrun, is_script=True),
}
