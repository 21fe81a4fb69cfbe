"""``hpcsgd.fit``: a run whose model, loss and optimizer come from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import hpcsgd
from hpcsgd.cli import main
from hpcsgd.config import DataConfig
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.shards import epoch_permutation
from hpcsgd.errors import UsageError
from hpcsgd.learners.dropout import seed_rank
from tests.single.tasks.own_task import Net, Precision, entropy

DATA = {"name": "synthetic", "synthetic_shape": (1, 4, 4), "synthetic_classes": 3, "synthetic_train_samples": 40,
        "synthetic_test_samples": 13}  # fmt: skip
SETTINGS: dict[str, Any] = {"data": DATA, "local_batch_size": 8, "device": "cpu", "threads": 1, "progress": "none",
                            "dtype": "float64"}  # fmt: skip


def test_fit_is_the_loop_that_a_user_would_write(tmp_path: Path) -> None:
    result = hpcsgd.fit(
        model=Net,
        loss=entropy,
        metrics={"precision": Precision(1)},
        optimizer=lambda params: torch.optim.AdamW(params, lr=0.01, weight_decay=0.1),
        epochs=3,
        run_dir=str(tmp_path / "run"),
        seed=4,
        **SETTINGS,
    )
    assert list(result.metrics["test"].values) == ["loss", "precision"]
    data = load_dataset(DataConfig(**DATA))  # type: ignore[arg-type]
    mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (data.mean, data.std))
    images = (torch.from_numpy(data.train.inputs).double() - mean) / std
    labels = torch.from_numpy(data.train.targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = Net().double()
    matrices = [m.weight for m in (model.first, model.second, model.unused, model.last)]
    others = [p for p in model.parameters() if p.requires_grad and all(p is not matrix for matrix in matrices)]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)
    for parameter in model.unused.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for epoch in range(3):
        order = torch.from_numpy(epoch_permutation(4, epoch, 40))
        for samples in order.split(8):
            optimizer.zero_grad(set_to_none=False)
            F.cross_entropy(model(images[samples]), labels[samples]).backward()
            optimizer.step()
    trained = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=0, atol=1e-12)


def test_a_run_from_python_says_so_and_goes_on_from_python_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SETTINGS | {"run_dir": str(tmp_path / "run"), "algorithm": hpcsgd.LocalSGD(period=2, block_size=None)}
    more: dict[str, Any] = {"model": Net, "checkpoint": {"every_steps": 2}, "learning_rate": 0.05}
    hpcsgd.fit(max_steps=5, **settings, **more)
    config = hpcsgd.load_run(tmp_path / "run").config
    assert config["model"]["name"] == "given.Net" and config["algorithm"]["sync_period"] == 2
    assert config["learning_rate"]["base"] == 0.05 and config["learning_rate"]["scaling_rule"] == "none"
    assert main(["train", str(tmp_path / "run" / "recipe.yaml"), "--resume", "auto", "--max_steps", "9"]) == 2
    assert "given.Net, which was brought from Python" in capsys.readouterr().err
    hpcsgd.fit(max_steps=9, resume="auto", epochs=2, **settings, **more)
    hpcsgd.fit(max_steps=9, epochs=2, **(settings | {"run_dir": str(tmp_path / "whole")}), **more)
    models = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("run", "whole")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_data_may_be_arrays(tmp_path: Path) -> None:
    inputs = torch.randn(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    targets = (inputs.mean(dim=(1, 2, 3)) > 0).long()
    settings = {key: value for key, value in SETTINGS.items() if key != "data"}
    result = hpcsgd.fit(
        model=lambda: Net(classes=2),
        data={"train": (inputs[:40], targets[:40]), "test": (inputs[40:], targets[40:])},
        data_options={"tail": "keep"},
        learning_rate=0.1,
        epochs=2,
        run_dir=str(tmp_path / "run"),
        **settings,
    )
    log = hpcsgd.load_run(tmp_path / "run")
    assert log.config["data"]["name"] == "given" and log.config["data"]["tail"] == "keep"
    assert result.metrics["test"].num_samples == 10
    assert log.provenance["data"]["samples"] == {"train": 40, "test": 10}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epoch": 3}, "hpcsgd.fit takes no epoch"),
        ({"epochs": 0}, "hpcsgd.fit: epochs is 0"),
        ({"data": {"nam": "mnist"}}, "a mapping of nam: it must have a split train"),
        ({"data": {"name": "mnist", "nam": 3}}, "hpcsgd.fit: .*nam"),
        ({"model": lambda: 3}, "the model is 3, no torch.nn.Module"),
        ({"optimizer": lambda params: 3}, "the optimizer is 3, no torch.optim.Optimizer"),
        ({"optimizer": lambda params: torch.optim.LBFGS(params)}, "closure|per-parameter"),
        ({"loss": lambda outputs, targets: outputs.mean()}, "loss.reduction mean"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        hpcsgd.fit(**({"model": Net, "log": {"enabled": False, "save_model": False}} | SETTINGS | changes))


def test_names_are_looked_up_when_they_are_used() -> None:
    assert hpcsgd.SMA().name == "sma" and hpcsgd.SyncSGD().name == "sync_sgd"
    assert hpcsgd.PostLocalSGD(4, "epoch:2").local_start == "epoch:2"
    assert hpcsgd.HierarchicalLocalSGD(2, 3).block_sync_period == 3
    assert hpcsgd.DiLoCo(500).resolved_outer_step == "nesterov"
    assert hpcsgd.LocalSGD(2, period_schedule={"kind": "power", "alpha": 0.1}).period_schedule.power == 2.0
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = hpcsgd.fitt


class Drops(Net):
    """Draws from torch's global generator, as attention does for its dropout."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(F.dropout(images, 0.5, self.training))


def test_what_a_network_draws_follows_from_the_seed_alone(tmp_path: Path) -> None:
    losses = []
    for place, seed in enumerate((1, 1, 2)):
        torch.rand(place)
        where = tmp_path / str(place)
        hpcsgd.fit(model=Drops, loss=entropy, max_steps=3, seed=seed, run_dir=str(where), **SETTINGS)
        losses.append(hpcsgd.load_run(where).iterations["loss"].tolist())
    assert losses[0] == losses[1] != losses[2]


def test_ranks_draw_apart() -> None:
    drawn = []
    for seed, rank in ((0, 0), (0, 1), (1, 0)):
        with torch.random.fork_rng(devices=[]):
            seed_rank(seed, rank)
            drawn.append(float(torch.rand(())))
    assert len(set(drawn)) == 3
