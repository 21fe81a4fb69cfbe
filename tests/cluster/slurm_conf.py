"""The configuration of a Slurm cluster whose nodes are all this machine."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

# What differs from a centre's cluster, and why:
# - No cgroups and no database in proctrack, task, jobacct and accounting: it runs in a container too.
# - config_overrides: a node has the cores and GPUs that it claims, not those of the machine.
# - TmpFS with the node's name (%n): PMIx keeps its directory of a step there, and two nodes that shared it would end
#   `srun --mpi=pmix` with "File exists".
# - Jobs start at once, also those whose time to begin has come, and are remembered to the end of the tests.
SLURM_CONF = """\
ClusterName=hpcsgd-tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=socket={state}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
MailProg=/bin/true
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/spool-%n
TmpFS={state}/tmp-%n
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd-%n.pid
SlurmctldLogFile={logs}/slurmctld.log
SlurmdLogFile={logs}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1
ReturnToService=2
KillWait=5
MinJobAge=86400
{gres_types}{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
# By default (tree), a fence without data does not make the nodes wait for each other. Open MPI's MPI_Init relies on
# it: a rank that is done sends to one that is not, which now and then ends there with a segmentation fault.
MPI_CONF = "PMIxCollFence=ring\n"


@dataclass(frozen=True)
class Layout:
    """A cluster to be: its directories, its nodes, what each node claims to have, the ports."""

    state: Path
    """Where the daemons keep their files. Its name must be short: sockets are made in it."""
    logs: Path
    nodes: tuple[str, ...]
    cpus_per_node: int
    gpus_per_node: int
    ports: tuple[int, ...]
    """The controller's port, then one a node."""

    @property
    def slurm_conf(self) -> Path:
        """The path that SLURM_CONF names."""
        return self.state / "slurm.conf"

    @property
    def temporary(self) -> Path:
        """Temporary files of jobs."""
        return self.state / "tmp"

    def slurm_text(self) -> str:
        """The text of ``slurm.conf``."""
        host = socket.gethostname().split(".")[0]
        gres = f" Gres=gpu:{self.gpus_per_node}" if self.gpus_per_node else ""
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} Sockets=1 "
            f"CoresPerSocket={self.cpus_per_node} ThreadsPerCore=1{gres} State=UNKNOWN"
            for node, port in zip(self.nodes, self.ports[1:], strict=True)
        )
        return SLURM_CONF.format(
            host=host,
            controller_port=self.ports[0],
            state=self.state,
            logs=self.logs,
            gres_types="GresTypes=gpu\n" if gres else "",
            nodes=nodes,
        )

    def gres_text(self) -> str:
        """The text of ``gres.conf``."""
        return "".join(
            f"NodeName={node} Name=gpu File={self.gpu_file(node, index)}\n"
            for node in self.nodes
            for index in range(self.gpus_per_node)
        )

    def gpu_file(self, node: str, index: int) -> Path:
        """What plays a GPU. Slurm wants a device whose name ends in the GPU's number: a link to one will do."""
        return self.state / f"tmp-{node}" / f"gpu{index}"

    def log_tails(self) -> str:
        """The last lines of the daemons' logs."""
        tails = []
        for path in sorted(self.logs.glob("*.log")):
            tails += [f"--- {path}", *path.read_text(errors="replace").splitlines()[-20:]]
        return "\n".join(tails)

    def write(self) -> None:
        """Make the directories and files."""
        (self.state / "controller").mkdir()
        self.temporary.mkdir()
        for node in self.nodes:
            (self.state / f"spool-{node}").mkdir()
            (self.state / f"tmp-{node}").mkdir()
            for index in range(self.gpus_per_node):
                self.gpu_file(node, index).symlink_to("/dev/null")
        (self.state / "gres.conf").write_text(self.gres_text())
        (self.state / "mpi.conf").write_text(MPI_CONF)
        self.slurm_conf.write_text(self.slurm_text())


def free_ports(number: int) -> tuple[int, ...]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(one.getsockname()[1] for one in sockets)
    finally:
        for one in sockets:
            one.close()
