"""``compile``: the same training, compiled before it begins and never in it; or the run without, as asked.

By ``aot_eager``: all of torch's compiler but the kernels, which take half a minute to make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch._dynamo
from torch import nn
from torch._dynamo.utils import counters

import hpcsgd
from hpcsgd.errors import UsageError
from hpcsgd.learners.tuner import Measured
from hpcsgd.record import load_run
from hpcsgd.run import compiling, tuning
from hpcsgd.train import RunResult, train


class Net(nn.Module):
    """Of a convolution with BatchNorm, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(48, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.body(images)))


def plain() -> nn.Sequential:
    """The same layers, in a class of torch's own."""
    return nn.Sequential(*Net().body, nn.Dropout(0.3), nn.Linear(48, 4))


def fit(path: Path, model: Callable[[], nn.Module] = Net, **settings: Any) -> RunResult:
    """Three steps an epoch, the last of another size, in two parts each."""
    chosen = {"local_batch_size": 8, "accumulation_steps": 2, "epochs": 2, "progress": "none", "threads": 1, **settings}
    return hpcsgd.fit(
        model=model,
        data={"name": "synthetic", "synthetic_shape": [1, 6, 6], "synthetic_classes": 4,
              "synthetic_train_samples": 21, "synthetic_test_samples": 13, "tail": "keep"},
        learning_rate=0.1,
        evaluate={"batch_size": 5, "splits": ("test", "train"), "recompute_batches": 2},
        run_dir=str(path),
        **chosen,
    )  # fmt: skip


def graphs() -> int:
    """What torch has compiled so far."""
    return int(counters["stats"]["unique_graphs"])


@contextmanager
def counting(found: list[int]) -> Iterator[None]:
    """Keep how many graphs are made before the loop, and within it."""

    def counted(*arguments: Any) -> Any:
        before = graphs()
        metrics = train(*arguments)
        found.extend((before - first, graphs() - before))
        return metrics

    torch._dynamo.reset()
    first = graphs()
    with mock.patch("hpcsgd.train.train", counted):
        yield


def assert_same(ours: Path, theirs: Path) -> None:
    """Equal losses and models, to the last bit."""
    logs = [load_run(path) for path in (ours, theirs)]
    assert logs[0].iterations["loss"].tolist() == logs[1].iterations["loss"].tolist()
    assert logs[0].evaluations["value"].tolist() == logs[1].evaluations["value"].tolist()
    models = [torch.load(path / "model.pt", weights_only=True) for path in (ours, theirs)]
    assert list(models[0]) == list(models[1])
    assert all(torch.equal(models[0][name], value) for name, value in models[1].items())


@pytest.mark.parametrize(("model", "algorithm", "learners"), [(Net, "sync_sgd", 1), (plain, "sma", 2)])
def test_a_compiled_run_has_the_same_bits_and_compiles_before_its_clock(
    model: Callable[[], nn.Module], algorithm: str, learners: int, tmp_path: Path
) -> None:
    section = {"name": algorithm, "batch_norm_policy": "recompute"}
    settings: dict[str, Any] = {"model": model, "algorithm": section, "learners_per_rank": learners, "engine": "loop"}
    found: list[int] = []
    with counting(found):
        fit(tmp_path / "compiled", compile=True, compile_backend="aot_eager", **settings)
    fit(tmp_path / "plain", **settings)
    before, within = found
    assert within == 0
    assert before >= 5, "two sizes in training, and 5, 3 and 1 samples in evaluation"
    assert_same(tmp_path / "compiled", tmp_path / "plain")
    ours, theirs = (load_run(tmp_path / name) for name in ("compiled", "plain"))
    assert (ours.provenance["compile"], theirs.provenance["compile"]) == ("aot_eager", None)
    (seconds,) = ours.segments["compile_seconds"]
    assert seconds > 0 and np.isnan(theirs.segments["compile_seconds"]).all()
    assert ours.iterations["start_seconds"].iloc[0] < seconds


def test_learners_that_the_tuner_tries_are_compiled_and_so_are_those_that_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Measured, "gains", np.ones(1))
    patient: list[float] = []
    plain_candidate = tuning.Candidate.__init__

    def candidate(self: tuning.Candidate, parts: Any, own: int) -> None:
        patient.append(parts.comm.watchdog.deadline_seconds)
        plain_candidate(self, parts, own)

    monkeypatch.setattr(tuning.Candidate, "__init__", candidate)
    settings: dict[str, Any] = {"algorithm": "sma", "engine": "loop"}
    tuner = {"windows": 1, "window_seconds": 0.01, "max_learners": 2}
    found: list[int] = []
    with counting(found):
        fit(tmp_path / "tuned", compile=True, compile_backend="aot_eager", learners_per_rank="auto", tuner=tuner,
            **settings)  # fmt: skip
    fit(tmp_path / "plain", learners_per_rank=2, **settings)
    assert found[1] == 0
    assert_same(tmp_path / "tuned", tmp_path / "plain")
    log = load_run(tmp_path / "tuned")
    assert log.tuner["decision"].tolist() == ["start", "taken"] and patient == [float("inf")] * 2
    assert log.segments["compile_seconds"].iloc[0] > 0


def broken(graph: torch.fx.GraphModule, examples: list[torch.Tensor]) -> Any:
    """A backend that can nothing."""
    raise NotImplementedError("no such kernel")


def test_a_model_that_cannot_be_compiled_is_refused_or_called_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch._dynamo.register_backend(broken, name="broken")  # type: ignore[no-untyped-call]
    with pytest.raises(UsageError, match="compile is true, but torch cannot .*no such kernel.*; choose compile: auto"):
        fit(tmp_path / "refused", compile=True, compile_backend="broken")
    assert not (tmp_path / "refused" / "run.h5").exists()
    fit(tmp_path / "auto", compile="auto", compile_backend="broken")
    lines = [line for line in capsys.readouterr().err.splitlines() if "compiled" in line]
    assert len(lines) == 1 and lines[0].startswith("hpcsgd: the model is not compiled: ")
    fit(tmp_path / "plain")
    assert_same(tmp_path / "auto", tmp_path / "plain")
    assert load_run(tmp_path / "auto").provenance["compile"] is None


def test_what_is_never_compiled_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="compile_backend is 'inducter': choose one of .*inductor"):
        fit(tmp_path / "run", compile=True, compile_backend="inducter")
    for engine in ("fused", "dense"):
        with pytest.raises(UsageError, match=f"engine is '{engine}': it must be one that calls the model"):
            fit(tmp_path / "run", compile=True, engine=engine)


def test_ranks_wait_for_one_that_compiles_longer_than_any_collective_may_take(tmp_path: Path) -> None:
    deadlines = []

    def passes(parts: Any, step: int) -> None:
        deadlines.append(parts.comm.watchdog.deadline_seconds)

    with mock.patch.object(compiling, "_take_all_passes", passes):
        fit(tmp_path / "run", compile=True, compile_backend="aot_eager", max_steps=1, faults={"hash_every": 0})
    assert deadlines == [float("inf")]
