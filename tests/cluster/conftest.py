"""One cluster of each size, for all tests; four nodes only once a test wants them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.cluster.slurm_cluster import SlurmCluster

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")


@pytest.fixture(scope="session")
def slurm() -> None:
    """Slurm can be started here. Where it cannot, the tests are skipped, but in CI they fail."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    reasons = [f"there is no {', '.join(missing)}: root gets them by .ci/system"] if missing else []
    if os.getuid() != 0:
        reasons.append("only root can start slurmd")
    if not reasons:
        return
    message = f"tests/cluster starts a Slurm cluster: {'; '.join(reasons)}"
    if os.environ.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(message)
    pytest.fail(message, pytrace=False)


@pytest.fixture(scope="session")
def two_nodes(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Two nodes of four cores and two played GPUs."""
    with SlurmCluster(2, tmp_path_factory.mktemp("two_nodes"), gpus_per_node=2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def four_nodes(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Four nodes of four cores."""
    with SlurmCluster(4, tmp_path_factory.mktemp("four_nodes")) as cluster:
        yield cluster
