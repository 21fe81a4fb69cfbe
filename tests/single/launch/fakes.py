"""Programs that stand in for Slurm's and MPI's: they note how they were called, and answer as they are told."""

from __future__ import annotations

from pathlib import Path

SCRIPT = """#!/bin/bash
PATH="$PATH:/usr/bin:/bin"
printf '%s\\n' "${{0##*/}}${{*:+ $*}}" >> "{directory}/calls"
{body}
"""

SBATCH = """if [[ "$*" == *--test-only* ]]; then
    echo "sbatch: Job 7 to start now" >&2
    exit
fi
last="$(cat "{directory}/last" 2>/dev/null || echo 100)"
echo "$((last + 1))" | tee "{directory}/last"
cp "${{@: -1}}" "{directory}/$((last + 1)).sbatch"
"""

RECIPE = """local_batch_size: 4
data: {name: synthetic, synthetic_shape: [1, 4, 4], synthetic_train_samples: 64, synthetic_test_samples: 8}
model: {widths: [4]}
"""
"""A run that takes milliseconds."""


class Fakes:
    """A directory of such programs."""

    def __init__(self, directory: Path) -> None:
        """Make the directory."""
        self.directory = directory
        directory.mkdir()

    def add(self, name: str, body: str = "") -> None:
        """A program: Bash that runs after its call is noted."""
        path = self.directory / name
        path.write_text(SCRIPT.format(directory=self.directory, body=body))
        path.chmod(0o755)

    def add_sbatch(self) -> None:
        """An sbatch that gives out the job ids 101, 102, ... and keeps the scripts that it gets."""
        self.add("sbatch", SBATCH.format(directory=self.directory))

    def calls(self, name: str = "") -> list[str]:
        """How the programs, or the one of this name, were called so far: the name and the words."""
        file = self.directory / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if not name or line.split()[0] == name]

    def sent(self, job: int) -> str:
        """The script of a job."""
        return (self.directory / f"{job}.sbatch").read_text()
