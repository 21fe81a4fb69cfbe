"""Start the daemons of a test cluster, each when the one before answers."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

from tests.cluster.slurm_conf import Layout

Process = subprocess.Popen[bytes]
START_SECONDS = 60.0
"""Far beyond the half second that it takes."""


class Daemons:
    """munged, slurmctld and one slurmd a node, all in the foreground: their end is seen at once."""

    def __init__(self, layout: Layout, environment: dict[str, str], started: list[Process]) -> None:
        """Nothing is started yet; ``started`` gets the processes."""
        self.layout, self.environment = layout, environment
        self._started = started

    def start(self) -> None:
        """Start all; return when every node is idle.

        Raises:
            RuntimeError: one of them ended or is not ready in time; with the last lines of the logs.
        """
        self._munged()
        self._spawn("slurmctld", "-c", "-D")
        self._until("slurmctld", lambda: self._ask("scontrol", "ping").returncode == 0)
        for node in self.layout.nodes:
            # The nodes share this machine's host name, by which PMIx would look for their ranks, and not find them.
            self._spawn("slurmd", "-D", "-N", node, PMIX_HOSTNAME=node)
        idle = ["idle"] * len(self.layout.nodes)
        self._until("slurmd", lambda: self._ask("sinfo", "--noheader", "--Node", "--format=%t").stdout.split() == idle)

    def _munged(self) -> None:
        state = self.layout.state
        key = state / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        # munged refuses to be root's, in a directory that only root may enter, unless forced.
        names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
        words = [f"--{option}={state}/munge.{ending}" for option, ending in names.items()]
        self._spawn("munged", "--foreground", "--force", *words)
        self._until("munged", (state / "munge.socket").exists)

    def _spawn(self, *words: str, **extra: str) -> None:
        # slurmctld and slurmd print the same into their own logs.
        path = self.layout.logs / "munged.log" if words[0] == "munged" else os.devnull
        with open(path, "ab") as out:
            self._started.append(subprocess.Popen(words, env=self.environment | extra, stdout=out, stderr=out))

    def _ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def _until(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            ended = any(daemon.poll() is not None for daemon in self._started)
            if ended or time.monotonic() > deadline:
                reason = "ended" if ended else f"is not ready after {START_SECONDS:g} s"
                raise RuntimeError(f"the test cluster's {name} {reason}\n{self.layout.log_tails()}")
            time.sleep(0.02)
