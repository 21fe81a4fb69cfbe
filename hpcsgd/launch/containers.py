"""How a command is started in a container: the words of each runtime, and what it is told of the job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpcsgd.launch.shell import expanded
from hpcsgd.launch.site import SiteProfile

MPI_VARIABLES = ("SLURM_*", "PMI_*", "PMIX_*", "PALS_*", "FLUX_*", "OMPI_*")
"""By these a rank finds the others."""


@dataclass(frozen=True)
class Runtime:
    """One runtime.

    Attributes:
        words: what comes before the command, as words of a shell, for a site and an image.
        launcher_words: what is said to the launcher instead.
    """

    words: Callable[[SiteProfile, str], list[str]] = lambda site, image: []
    launcher_words: Callable[[str], list[str]] = lambda image: []


def _apptainer(program: str) -> Runtime:
    """Apptainer and Singularity: the environment comes along, the current directory where the site mounts it."""

    def words(site: SiteProfile, image: str) -> list[str]:
        binds = [expanded(f"--bind={bind}") for bind in site.binds]
        return [program, "run", *(expanded(option) for option in site.container_options), *binds, expanded(image)]

    return Runtime(words)


def _podman_hpc(site: SiteProfile, image: str) -> list[str]:
    """NERSC's: of the environment it has only what it is told."""
    binds = [expanded(f"--volume={bind}:{bind}") for bind in ("$PWD", *site.binds)]
    variables = [f"'--env={name}'" for name in (*site.exports, "HPCSGD_*", *MPI_VARIABLES)]
    options = [expanded(option) for option in site.container_options]
    return ["podman-hpc", "run", "--rm", *options, *binds, '"--workdir=$PWD"', *variables, expanded(image)]


RUNTIMES = {
    "apptainer": _apptainer("apptainer"),
    "singularity": _apptainer("singularity"),
    "podman-hpc": Runtime(_podman_hpc),
    # CSCS's container engine: srun starts the ranks in the environment that a file describes.
    "edf": Runtime(launcher_words=lambda image: [expanded(f"--environment={image}")]),
}
