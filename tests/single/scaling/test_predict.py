"""From logs to predictions: what the replay made up is found again, foretold at larger sizes, and kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from hpcsgd.errors import UsageError
from hpcsgd.record.reader import find_runs
from hpcsgd.record.summary import seconds as seconds_text
from hpcsgd.scaling.command import predict as command
from hpcsgd.scaling.fit import Model, fit, num_buckets, timings_of
from hpcsgd.scaling.logs import Small, small_run
from hpcsgd.scaling.methods import parse_method
from hpcsgd.scaling.predict import Answer, Limits, Question, best, interval, predict
from hpcsgd.scaling.ranks import NO_EFFECTS
from hpcsgd.scaling.unknown import gaps
from tests.single.analysis.fake_runs import FakeRun, constant
from tests.single.scaling import replayed

METHODS = tuple(map(parse_method, ("sync_sgd", "hierarchical_local_sgd:4x4")))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("small")
    replayed.write_small(directory, METHODS)
    return directory


@pytest.fixture(scope="module")
def runs(logs: Path) -> list[Small]:
    return [small_run(run) for run in find_runs([logs])[0]]


@pytest.fixture(scope="module")
def model(runs: list[Small]) -> Model:
    return fit(runs)


def test_what_was_replayed_is_found_again(model: Model) -> None:
    for batch in (16, 32, 64):
        true = replayed.FIXED_SECONDS + replayed.SAMPLE_SECONDS * batch
        # One device of four is slow: the usual one is so much of the way.
        assert model.usual_seconds(batch) / np.exp(replayed.SLOW / 4) == pytest.approx(true, rel=0.04)
    noise = model.noise
    assert (noise.correlated, noise.correlation) == (pytest.approx(0.04, rel=0.35), pytest.approx(0.9, abs=0.1))
    assert noise.independent == pytest.approx(0.08, rel=0.1)
    effects = np.concatenate(model.effects.devices)
    assert sorted(effects - effects.min())[-1] == pytest.approx(replayed.SLOW, rel=0.25)
    network = model.costs().network
    assert network.within.bytes_per_second == pytest.approx(4e9, rel=0.02)
    assert network.between.bytes_per_second == pytest.approx(1e9, rel=0.02)
    assert model.levels == {"within", "between"} and model.parameter_bytes == replayed.PARAMETER_BYTES


def test_larger_sizes_come_as_they_were_predicted(model: Model) -> None:
    methods = (*METHODS, *map(parse_method, ("local_sgd:4", "local_sgd:16")))
    inside = []
    for answer in predict(model, Question((16, 64), 2, methods, (32, 32), num_steps=96), num_draws=60):
        method = parse_method(answer.method)
        true = float(replayed.replayed(method, answer.gpus, 32, 96, seed=99).step_seconds)
        found = interval(answer.iteration_seconds)
        assert found["median"] == pytest.approx(true, rel=0.05), answer.method
        inside.append(found["low"] <= true <= found["high"])
        assert 0 < found["low"] < found["high"] < 1.5 * found["low"]
    assert sum(inside) >= 7


def test_local_steps_gain_what_averaging_away_gives(model: Model) -> None:
    methods = tuple(map(parse_method, ("local_sgd:1", "local_sgd:16")))
    silent = dataclasses.replace(model, effects=NO_EFFECTS)
    often, seldom = predict(silent, Question((64,), 2, methods, (32,)), num_draws=40)
    waits = [float(np.median(one.waited * one.iteration_seconds)) for one in (often, seldom)]
    assert 2 < waits[0] / waits[1] < 4


def answer(method: str, seconds: float, gpus: int = 8) -> Answer:
    draws = np.full(4, seconds)
    return Answer(method, gpus, 1, 32, draws, draws, draws, draws, 10.0, 32 * gpus * 360)


def test_the_best_within_limits() -> None:
    fast, cheap = answer("a", 1.0, 64), answer("b", 4.0)
    assert best([fast, cheap], Limits(), "hours") is fast and best([fast, cheap], Limits(), "gpu_hours") is cheap
    assert fast.hours is not None and fast.hours[0] == pytest.approx(1) and cheap.gpu_hours == pytest.approx(32)
    assert best([fast, cheap], Limits(gpu_hours=40), "hours") is cheap
    assert best([fast, cheap], Limits(hours=2), "gpu_hours") is fast
    assert best([fast, cheap], Limits(hours=2, gpu_hours=40), "hours") is None


def test_what_cannot_be_known_is_said_with_the_run_that_would_tell(runs: list[Small]) -> None:
    def said(*kept: Small, gpus: int = 4, batch: int = 32) -> str:
        question = Question((gpus,), 2, METHODS, (batch,))
        found = gaps(fit(kept), kept, question, network_known=False)
        return "; ".join(f"{gap.text} -> {gap.run}" for gap in found)

    alone = [run for run in runs if run.num_ranks == 1 and run.batch == 32]
    node = [run for run in runs if run.num_ranks == 2]
    assert "all communication and all waiting is left out, so times are least ones -> 2 ranks" in said(*alone)
    assert "No run crosses nodes" in said(*node) and "-> 2 nodes of 2, local batch 32" in said(*node)
    assert "what part of a step is fixed cannot be told" in said(*alone, batch=8)
    assert "-> 1 GPU, local batch 8" in said(*alone, batch=8)
    assert "beyond those run, 16 to 32" in said(*runs, batch=256)
    assert "512 GPUs are 128 times the largest run" in said(*runs, gpus=512)
    assert said(*runs) == ""


def test_one_batch_leaves_the_fixed_part_open(runs: list[Small]) -> None:
    found = fit([run for run in runs if run.batch == 32])
    generator = np.random.default_rng(0)
    half = [found.usual_seconds(16, generator) for _ in range(200)]
    same = [found.usual_seconds(32, generator) for _ in range(200)]
    assert max(half) / min(half) > 1.6 and max(same) / min(same) < 1.4


def test_what_the_backward_pass_hid_is_added(tmp_path: Path) -> None:
    """4 buckets and a backward pass of 0.6 s: of 1 s it hides 0.45, of 0.2 s all but the last bucket."""
    for whole, seen in ((1.0, 0.55), (0.2, 0.05)):
        spans = {"backward_seconds": constant(0.6, 12, 2), "gradient_allreduce_seconds": constant(seen, 12, 2)}
        settings = {"comm": {"bucket_bytes": 250}}
        FakeRun(spans, ["gradient"] * 12, config=settings, provenance={"gradient_overlap": True}).write(
            tmp_path / f"{whole}"
        )
        run = small_run(find_runs([tmp_path / f"{whole}"])[0][0])
        (timing,) = timings_of(run)
        assert num_buckets(run) == timing.parts == 4 and timing.seconds == pytest.approx(whole)


def test_the_command_keeps_a_prediction_with_the_hashes_of_its_logs(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prediction.json"
    words = [str(logs), "--gpus", "8,64", "--batch", "32", "--algorithm", "sync_sgd,local_sgd:16", "-o", str(file)]
    words += ["--steps", "32"]
    more = ["--epochs", "2", "--samples", "100000", "--limit_hours", "1"]
    assert command([*words, *more]) == 0
    said, kept = capsys.readouterr().out, json.loads(file.read_text())
    assert len(kept["logs"]) == 8
    assert all(hashlib.sha256(Path(log["path"]).read_bytes()).hexdigest() == log["sha256"] for log in kept["logs"])
    assert [(one["algorithm"], one["gpus"]) for one in kept["predictions"]] == [
        (name, gpus) for gpus in (8, 64) for name in ("sync_sgd", "local_sgd:16")
    ]
    one = kept["predictions"][0]
    assert one["iteration_seconds"]["low"] < one["iteration_seconds"]["median"] < one["iteration_seconds"]["high"]
    seconds = 2 * 100000 / (8 * 32) * one["iteration_seconds"]["median"]
    assert one["hours"]["median"] == pytest.approx(seconds / 3600, rel=1e-6)
    assert kept["fastest"] == {"algorithm": "local_sgd:16", "gpus": 64}
    lines = said.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("sync_sgd "))
    assert lines[first - 1].split()[:6] == ["algorithm", "GPUs", "batch", "iteration", "epoch", "samples/s"]
    for name in ("iteration_seconds", "epoch_seconds"):
        assert seconds_text(one[name]["median"]) in lines[first]
        assert seconds_text(one[name]["high"]) in lines[first + 1]
    for words_said in (
        "local_sgd:16",
        "Fastest: local_sgd:16 on 64 GPUs.",
        "Not known:",
        "Runs that would tell:",
        f"kept in {file}",
    ):
        assert words_said in said
    with pytest.raises(UsageError, match="is there already, and a prediction is not to be changed"):
        command(words)
    assert command([*words, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["hours"] is None


def test_time_to_a_target_says_what_it_assumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    method = METHODS[0]
    replayed.write(tmp_path / "run", method, 2, 32, 40, 0, steps_per_epoch=10, accuracies=(0.5, 0.7, 0.9, 0.95))
    words = [
        str(tmp_path / "run"),
        "--gpus",
        "4",
        "--algorithm",
        "sync_sgd",
        "--samples",
        "640",
        "-o",
        str(tmp_path / "p.json"),
    ]
    assert command([*words, "--target", "0.88"]) == 0
    assert "accuracy=0.88 after 3 epochs, as run took" in capsys.readouterr().out
    one = json.loads((tmp_path / "p.json").read_text())["predictions"][0]
    assert one["hours"]["median"] == pytest.approx(3 * one["epoch_seconds"]["median"] / 3600, rel=1e-6)
    for target, message in (
        ("0.99", "no run has reached it"),
        ("acuracy=0.5", "did you mean accuracy"),
        ("x=y", "write METRIC=VALUE"),
    ):
        with pytest.raises(UsageError, match=message):
            command([*words, "--overwrite", "--target", target])


def test_logs_that_tell_too_little_are_refused(tmp_path: Path) -> None:
    spans = {"forward_seconds": constant(1, 12, 3)}
    for name, run, message in (
        ("summary", FakeRun(spans, ["gradient"] * 12, labels="summary"), "log.ranks is summary"),
        ("some", FakeRun(spans, ["gradient"] * 12, labels=[0]), "1 of 3 ranks are in the log"),
        ("short", FakeRun({"forward_seconds": constant(1, 9, 3)}, ["gradient"] * 9), "9 steps, of which the first 2"),
    ):
        run.write(tmp_path / name)
        with pytest.raises(UsageError, match=message):
            command([str(tmp_path / name), "--gpus", "4", "-o", str(tmp_path / "p.json")])
    with pytest.raises(UsageError, match="no run"):
        command([str(tmp_path / "nothing"), "--gpus", "4"])
