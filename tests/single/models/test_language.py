"""Language models: causality, and that they learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hpcsgd.config import DataConfig, LearningRateConfig, ModelConfig, RunConfig
from hpcsgd.config.workload import ModelName
from hpcsgd.learners.replica import Replica
from hpcsgd.models import build_model
from hpcsgd.optim.sgd import decayed_parameters
from hpcsgd.train import run

SIZES = {"embedding": 16, "hidden": 24, "layers": 2}
SMALL = {"lstm": SIZES, "transformer": SIZES | {"heads": 2}}
NAMES = ("lstm", "transformer")


@pytest.mark.parametrize("name", NAMES)
def test_logits_depend_on_no_later_token(name: ModelName) -> None:
    model = build_model(ModelConfig(name=name, **SMALL[name]), (6,), 11, seed=0).double()
    tokens = torch.randint(0, 11, (3, 6), generator=torch.Generator().manual_seed(0))
    first = model(tokens)
    assert first.shape == (3, 6, 11)
    for place in range(6):
        other = tokens.clone()
        other[:, place] = (other[:, place] + 1) % 11
        changed = (model(other) - first).abs().amax(dim=(0, 2)) > 1e-12
        assert changed.tolist() == [False] * place + [True] * (6 - place)


def test_numbers_of_parameters() -> None:
    lstm = build_model(ModelConfig(name="lstm", **SMALL["lstm"]), (6,), 11, seed=0)
    layer = [4 * 24 * (inputs + 24) + 2 * 4 * 24 for inputs in (16, 24)]
    assert sum(p.numel() for p in lstm.parameters()) == 11 * 16 + sum(layer) + 24 * 11 + 11
    model = build_model(ModelConfig(name="transformer", **SMALL["transformer"]), (6,), 11, seed=0)
    block = (16 * 48 + 48) + (16 * 16 + 16) + (16 * 24 + 24) + (24 * 16 + 16) + 4 * 16
    assert sum(p.numel() for p in model.parameters()) == (11 + 6) * 16 + 2 * block + 2 * 16 + 16 * 11 + 11


def test_weight_decay_is_for_the_matrices_of_recurrent_layers_too() -> None:
    model = build_model(ModelConfig(name="lstm", **SMALL["lstm"]), (6,), 11, seed=0)
    decayed = decayed_parameters(model)
    assert {name for name, p in model.named_parameters() if id(p) not in decayed} == {
        name for name, p in model.named_parameters() if p.dim() == 1
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_replica_holds_them(name: ModelName) -> None:
    model = build_model(ModelConfig(name=name, **SMALL[name]), (6,), 11, seed=0)
    tokens = torch.randint(0, 11, (2, 6))
    before = model(tokens)
    replica = Replica(model, torch.device("cpu"), torch.float32, channels_last=False)
    assert torch.equal(replica.module(tokens), before)
    replica.parameters.zero_()
    assert (replica.module(tokens) == 0).all()


@pytest.mark.parametrize(("name", "rate"), [("lstm", 1.0), ("transformer", 0.1)])
def test_a_repeating_text_is_learned(tmp_path: Path, name: ModelName, rate: float) -> None:
    (tmp_path / "a.txt").write_text("the cat sat on a mat. " * 60)
    config = RunConfig(
        epochs=25,
        local_batch_size=8,
        progress="none",
        threads=1,
        run_dir=str(tmp_path / "run"),
        data=DataConfig(name="text", dir=str(tmp_path / "a.txt"), sequence_length=16),
        model=ModelConfig(name=name, embedding=32, hidden=32, layers=1),
        learning_rate=LearningRateConfig(base=rate, scaling_rule="none"),
    )
    metrics = run(config).metrics["test"]
    assert metrics.num_samples == 8
    assert metrics.values["accuracy"] > 0.85
    assert metrics.values["loss"] < 0.6
