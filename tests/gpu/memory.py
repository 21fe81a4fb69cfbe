"""Memory that runs out: the tuner must say so of as many learners as there is no room for, and go on."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from hpcsgd import train
from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.config import AlgorithmConfig, LogConfig, ModelConfig, TunerConfig
from hpcsgd.record.reader import load_run
from hpcsgd.record.utilisation import gpu_share
from tests.gpu.check import Check
from tests.gpu.loops import MIB, recipe

ROOM = 1024 * MIB
TUNER = TunerConfig(windows=1, window_seconds=0.02, max_learners=64, threshold=0.0)
ENGINES = ("auto", "graph", "loop")


def run_out(check: Check) -> None:
    """Does the tuner come to its end, whichever engine meets the limit? And does NVML answer?"""
    if not check.is_real:
        check.left_out("the tuner within little memory", "a CPU's memory has no limit that torch could be given")
        return
    for engine in ENGINES:
        with _room(check, ROOM), tempfile.TemporaryDirectory() as folder:
            config = recipe(
                check,
                64,
                (3, 32, 32),
                ModelConfig(name="resnet20"),
                engine=engine,
                learners_per_rank="auto",
                samples=64 * 64,
                max_steps=2,
                tuner=TUNER,
                algorithm=AlgorithmConfig(name="sma"),
            )
            config = replace(config, log=LogConfig(save_model=False), run_dir=f"{folder}/run")
            try:
                train.run(config, SingleCommunicator())
            except (Exception, SystemExit) as error:
                check.failed(f"the tuner within {ROOM // MIB} MiB, engine {engine}", error)
                continue
            trials = load_run(Path(config.run_dir or "")).tuner
            tried = ", ".join(map(str, trials["learners"]))
            without = trials.loc[trials["reason"].str.contains("memory"), "learners"]
            check.row(
                f"the tuner within {ROOM // MIB} MiB, engine {engine}",
                "ok",
                tried=tried,
                without_memory=str(without.min()),
            )
    begin = time.perf_counter()
    share = gpu_share(check.device)()
    check.row("NVML: a question", "ok", share=share, milliseconds=1e3 * (time.perf_counter() - begin))


@contextmanager
def _room(check: Check, room: int) -> Iterator[None]:
    """Inside, torch has ``room`` bytes more than it has now."""
    check.clear()
    total = torch.cuda.get_device_properties(check.device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(check.device) + room) / total, check.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, check.device)
        check.clear()
