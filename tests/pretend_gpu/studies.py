"""A study on the pretend GPU: what is measured is to the character what a CPU measures."""

from __future__ import annotations

import math
import tempfile

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.config import DataConfig, ModelConfig
from hpcsgd.config.study import RangeConfig, SpaceConfig, SpacingConfig, StopConfig, StudyConfig
from hpcsgd.trials.job import run
from tests.pretend_gpu.compare import Row, seen
from tests.pretend_gpu.machine import the_machine

FUSED = {"study": 2, "study_apart": 1}
"""By name, the trials that train together."""

DATA = DataConfig(
    name="synthetic",
    synthetic_shape=(1, 4, 4),
    synthetic_classes=3,
    synthetic_train_samples=60,
    synthetic_test_samples=12,
    validation_samples=20,
)


def run_study(name: str) -> Row:
    """The row of the study ``name``."""
    findings, row = the_machine().findings, Row(name)
    the_machine().begin_run()
    ours = measurements("cuda", FUSED[name])
    row.races, row.foreign = findings.races.total(), findings.foreign.total()
    row.seen = seen(findings.races, "race") + seen(findings.foreign, "device")
    row.difference = 0.0 if ours == measurements("cpu", FUSED[name]) and ours else math.inf
    if row.difference:
        row.wrong.append("the measurements differ")
    if row.races:
        row.wrong.append(f"{row.races} races")
    if row.foreign:
        row.wrong.append(f"{row.foreign} uses of another device")
    return row


def measurements(device: str, fuse: int) -> dict[str, str]:
    """All files of measurements of a small study."""
    with tempfile.TemporaryDirectory() as folder:
        config = StudyConfig(
            batch_sizes=(4,),
            trials=3,
            fuse=fuse,
            threads=1,
            device=device,  # type: ignore[arg-type]
            progress="none",
            study_dir=f"{folder}/study",
            model=ModelConfig(widths=(6,)),
            data=DATA,
            space=SpaceConfig(learning_rate=RangeConfig(min=0.01, max=0.5, scale="log")),
            stop=StopConfig(steps=8),
            evaluate=SpacingConfig(every_steps=4, train_samples=20),
        )
        path = run(config, SingleCommunicator())
        return {str(file.relative_to(path)): file.read_text() for file in sorted(path.rglob("measurements.csv"))}
