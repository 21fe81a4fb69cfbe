"""``hpcsgd.session``: a loop of the user's own, timed, and an ordinary one afterwards."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hpcsgd
from hpcsgd.config import AlgorithmConfig, LogConfig
from hpcsgd.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
OWN = ROOT / "jobs" / "own"
ALGORITHMS: list[AlgorithmConfig | None] = [
    None,
    hpcsgd.SyncSGD(),
    hpcsgd.LocalSGD(period=3),
    hpcsgd.SMA(alpha=0.5, central_momentum=0.0, restart="none", period=1 << 20),
]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    stream = torch.Generator().manual_seed(1)
    return [(torch.randn(4, 6, generator=stream), torch.randint(3, (4,), generator=stream)) for _ in range(count)]


def plain(count: int) -> tuple[nn.Module, list[float]]:
    """The loop without hpcsgd."""
    model, losses = network(), []
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(2)
    for inputs, targets in batches(count):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize("algorithm", ALGORITHMS[:3])
@pytest.mark.parametrize("set_to_none", [False, True])
def test_one_rank_does_what_the_loop_without_hpcsgd_does(
    tmp_path: Path, algorithm: AlgorithmConfig | None, set_to_none: bool
) -> None:
    expected, losses = plain(7)
    model = network()
    held = list(model.parameters())
    optimizer = torch.optim.Adam(held, lr=0.01)
    with hpcsgd.session(model, optimizer, algorithm=algorithm, run_dir=str(tmp_path / "run")) as run:
        torch.manual_seed(2)
        for inputs, targets in run.batches(batches(7)):
            optimizer.zero_grad(set_to_none=set_to_none)
            with run.forward():
                loss = F.cross_entropy(model(inputs), targets)
            run.backward(loss)
            run.step()
        with run.consensus() as module:
            assert module is model
            run.evaluated("test", 12, loss=0.5, iou=0.25)
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name
    # An ordinary model again: every tensor has memory of its own, and is who it was.
    assert all(a is b for a, b in zip(model.parameters(), held, strict=True))
    assert len({p.untyped_storage().data_ptr() for p in held}) == len(held)
    assert [type(part) for part in model.modules()] == [type(part) for part in expected.modules()]
    assert not any(p._post_accumulate_grad_hooks for p in held)
    log = hpcsgd.load_run(tmp_path / "run")
    assert log.status == "completed" and log.iterations["loss"].tolist() == pytest.approx(losses)
    assert log.iterations["num_samples"].tolist() == [4] * 7 and log.epochs["num_samples"].tolist() == [28]
    assert log.config["model"]["name"] == "given.Sequential"
    assert log.evaluations[["split", "metric", "value"]].values.tolist() == [
        ["test", "loss", 0.5],
        ["test", "iou", 0.25],
    ]
    for span in ("data", "forward", "backward", "update"):
        assert (log.iterations[f"{span}_seconds"] > 0).all(), span


def test_a_loop_is_left_early_or_by_an_exception_and_the_model_is_whole(tmp_path: Path) -> None:
    expected, _ = plain(3)
    for ends in ("break", "raise"):
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

        def loop(run: Any, model: nn.Module = model, ends: str = ends) -> None:
            torch.manual_seed(2)
            for number, (inputs, targets) in enumerate(run.batches(batches(7))):
                if number == 3:
                    if ends == "break":
                        break
                    raise KeyError("mine")
                run.backward(F.cross_entropy(model(inputs), targets))
                run.step()

        session = hpcsgd.session(
            model, optimizer, algorithm=hpcsgd.LocalSGD(period=2), run_dir=str(tmp_path / ends), overwrite=True
        )
        if ends == "raise":
            with pytest.raises(KeyError, match="mine"), session as run:
                loop(run)
        else:
            with session as run:
                loop(run)
        # Break leaves a step that was skipped: it moves nothing.
        for name, value in model.state_dict().items():
            assert torch.equal(value, expected.state_dict()[name]) or "running" in name or "num_batches" in name, name
        assert hpcsgd.load_run(tmp_path / ends).status == ("completed" if ends == "break" else "failed")


def mixed() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())


@pytest.mark.parametrize(
    ("said", "changes"),
    [
        ("its state stays as it is", {"algorithm": hpcsgd.LocalSGD(2, momentum_policy="average")}),
        ("restart must be none", {"algorithm": hpcsgd.SMA()}),
        ("which goes by epochs", {"algorithm": hpcsgd.LocalSGD(2, period_schedule={"kind": "linear"})}),
        ("which a session does not know", {"algorithm": hpcsgd.DiLoCo(2, outer_schedule="cosine")}),
        ("in a session it must be step:N", {"algorithm": hpcsgd.PostLocalSGD(2, "epoch:1")}),
        ("needs hpcsgd's own data", {"algorithm": hpcsgd.LocalSGD(2, batch_norm_policy="recompute")}),
        ("takes no epochs", {"epochs": 3}),
        ("log.noise_scale is not for a session", {"log": LogConfig(noise_scale=True)}),
        ("all alike", {"model": mixed()}),
        ("not of the model: make it from model.parameters", {"parameters": list(network().parameters())}),
    ],
)
def test_what_cannot_be_is_refused(said: str, changes: dict[str, Any]) -> None:
    given = {"algorithm": hpcsgd.SyncSGD(), "log": None, "model": network()} | changes
    parameters = given.pop("parameters", None) or list(given["model"].parameters())
    model, optimizer = given.pop("model"), torch.optim.SGD(parameters, lr=0.1)
    with pytest.raises(UsageError, match=said), hpcsgd.session(model, optimizer, **given):
        pass


def test_progress_is_shown_where_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (None, "lines"):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        settings: dict[str, Any] = {
            "progress": progress,
            "log": LogConfig(flush_steps=2),
            "run_dir": str(tmp_path / f"{progress}"),
        }
        with hpcsgd.session(model, optimizer, algorithm=hpcsgd.SyncSGD(), **settings) as run:
            for inputs, targets in run.batches(batches(4)):
                optimizer.zero_grad()
                run.backward(F.cross_entropy(model(inputs), targets))
                run.step()
        said = capsys.readouterr().err
        shown = re.search(
            r"^step 2: [\d,.]+ samples/s, loss \d\.\d{4}, exposed [\d.]+ %, epoch 0\.50$", said, re.MULTILINE
        )
        assert (shown is not None) == (progress == "lines"), said


def test_a_step_without_a_backward_pass_is_refused(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match="in the place of loss.backward"):
        with hpcsgd.session(model, optimizer, algorithm=hpcsgd.SyncSGD(), run_dir=str(tmp_path / "run")) as run:
            for inputs, targets in run.batches(batches(2)):
                F.cross_entropy(model(inputs), targets).backward()
                run.step()


def test_a_span_that_the_log_has_not_is_refused_at_once(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hpcsgd.session(model, optimizer, algorithm=None, run_dir=str(tmp_path / "run")) as run:
        for _ in run.batches(batches(1)):
            with pytest.raises(UsageError, match="did you mean forward"), run.span("forwards"):
                raise AssertionError("the body is not begun")
            with pytest.raises(UsageError, match="the spans are data, forward"), run.span("zzz"):
                pass


def test_the_example_differs_from_the_plain_script_in_eight_lines_and_says_the_same(tmp_path: Path) -> None:
    texts = [(OWN / name).read_text().splitlines()[1:] for name in ("loop_plain.py", "loop.py")]
    lines = [{line.strip() for line in text if line.strip()} for text in texts]
    assert len(lines[1] - lines[0]) <= 8
    outputs = [
        subprocess.run(
            [sys.executable, OWN / name, "2"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
        ).stdout
        for name in ("loop_plain.py", "loop.py")
    ]
    assert outputs[0] == outputs[1] and outputs[0].count("last loss") == 2
