"""Tables, TensorBoard's scalars, MLPerf's lines and Extra-P's, and the command."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpcsgd.cli import main
from hpcsgd.export import extrap, mllog, tables, tensorboard
from hpcsgd.export.excerpt import excerpt
from hpcsgd.record import load_run
from tests.single.analysis.fake_runs import FakeRun, constant
from tests.single.record.log_files import old_log


def made_up(ranks: int = 2, **changes: Any) -> FakeRun:
    """Two epochs of two steps, each evaluated."""
    spans = {
        "forward_seconds": constant(0.1, 4, ranks) * np.arange(1, ranks + 1),
        "backward_seconds": constant(0.3, 4, ranks),
        "evaluation_seconds": np.array([[0.0], [0.5], [0.0], [0.5]]) + np.zeros((4, ranks)),
    }
    fake = FakeRun(spans, ["none"] * 4, steps_per_epoch=2, accuracies=[0.5, 0.75], train_accuracies=[0.6, 0.8])
    started, config = "2026-01-02T03:04:05+00:00", {"seed": 7, "global_batch_size": 32 * ranks}
    return replace(fake, **{"started": started, "config": config, **changes})


def test_csv_is_the_tables_of_the_log(tmp_path: Path) -> None:
    run = load_run(made_up().write(tmp_path / "run"))
    written = tables.write_csv([excerpt(run, (1, 3), [1])], tmp_path / "x.csv.gz")
    assert [path.name for path in written] == ["x.csv.gz", "x.epochs.csv.gz", "x.evaluations.csv.gz"]
    iterations, epochs, evaluations = map(pd.read_csv, written)
    asked = run.iterations[run.iterations["step"].isin([1, 2]) & (run.iterations["rank"] == 1)]
    # Whether a text that is not there, or is "none", is read as one is the reader's.
    read = pd.read_csv(written[0], keep_default_na=False)
    assert read["action"].tolist() == ["none", "none"] and list(iterations) == list(asked)
    assert iterations["wall_seconds"].tolist() == asked["wall_seconds"].tolist()
    assert len(epochs) == 2 and evaluations["value"].tolist() == run.evaluations["value"].tolist()


def test_parquet_is_asked_of_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pyarrow makes of it is not looked at here: the package is too large for the tests' environment."""
    asked: list[tuple[int, Any]] = []

    def to_parquet(self: pd.DataFrame, file: Path, **how: Any) -> None:
        file.write_bytes(b"parquet")
        asked.append((len(self), how))

    monkeypatch.setitem(sys.modules, "pyarrow", ModuleType("pyarrow"))
    monkeypatch.setattr(pd.DataFrame, "to_parquet", to_parquet)
    written = tables.write_parquet([excerpt(load_run(made_up().write(tmp_path / "run")))], tmp_path / "x.parquet")
    assert [path.name for path in written] == ["x.parquet", "x.epochs.parquet", "x.evaluations.parquet"]
    assert all(path.read_bytes() == b"parquet" for path in written)
    assert asked == [(count, {"engine": "pyarrow", "index": False}) for count in (8, 2, 8)]


@pytest.mark.parametrize("name", ["parquet", "tensorboard"])
def test_a_package_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    missing = {"parquet": "pyarrow", "tensorboard": "tensorboard"}[name]

    class Nowhere(MetaPathFinder):
        def find_spec(self, fullname: str, *_others: object) -> None:
            if fullname == missing:
                raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)

    monkeypatch.delitem(sys.modules, missing, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Nowhere(), *sys.meta_path])
    made_up().write(tmp_path / "run")
    assert main(["export", "run", "--to", name]) == 2
    assert capsys.readouterr().err == f"hpcsgd: {missing} is not installed: pip install 'hpcsgd[export]'\n"


def test_scalars(tmp_path: Path) -> None:
    selected = excerpt(load_run(made_up().write(tmp_path / "run")), (1, 4))
    found = list(tensorboard.scalars(selected))
    assert [step for _, step, _ in found] == [1, 2, 3]
    assert found[0][0] == pytest.approx(1767323045 + 2 * 0.4 + 0.5)
    assert found[0][2] == pytest.approx({
        **{"loss/rank_0": 2 - 1 / 3, "learning_rate": 0.1, "samples_per_second": 64 / 0.5},
        **{"test/loss": 1.5, "test/accuracy": 0.5, "train/loss": 1.4, "train/accuracy": 0.6},
    })  # fmt: skip
    assert set(found[1][2]) == {"loss/rank_0", "learning_rate", "samples_per_second"}
    summary = excerpt(load_run(made_up(labels="summary").write(tmp_path / "summary")))
    assert next(tensorboard.scalars(summary))[2] == pytest.approx(
        {"loss/median": 2.0, "learning_rate": 0.1, "samples_per_second": 64 / 0.5}
    )


def test_events_are_given_to_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its messages and its writer are stood for here: what the package needs is too large for the tests."""

    class Message(SimpleNamespace):
        Value = dict

        def SerializeToString(self) -> bytes:  # noqa: N802  protobuf's name
            return json.dumps(vars(self), default=vars).encode()

    class Writer:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: bytes) -> None:
            self.file.write(data + b"\n")

    places = {"compat.proto.event_pb2": {"Event": Message}, "compat.proto.summary_pb2": {"Summary": Message}}
    for place, names in {**places, "summary.writer.record_writer": {"RecordWriter": Writer}}.items():
        module = ModuleType(f"tensorboard.{place}")
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, f"tensorboard.{place}", module)
    for place in ("", ".compat", ".compat.proto", ".summary", ".summary.writer"):
        monkeypatch.setitem(sys.modules, f"tensorboard{place}", ModuleType(f"tensorboard{place}"))
    path = tmp_path / "events.out.tfevents"
    assert tensorboard.write([excerpt(load_run(made_up().write(tmp_path / "run")))], path) == [path]
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert events[0]["file_version"] == "brain.Event:2" and [e["step"] for e in events[1:]] == [0, 1, 2, 3]
    assert events[1]["summary"]["value"][0] == {"tag": "loss/rank_0", "simple_value": 2.0}


def parsed(path: Path) -> list[dict[str, Any]]:
    """As mlperf_logging's parser takes a line: its mark, then JSON."""
    lines = path.read_text().splitlines()
    assert all(line.startswith(":::MLLOG {") for line in lines)
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]


def test_mllog_lines(tmp_path: Path) -> None:
    run = load_run(made_up().write(tmp_path / "run"))
    mllog.write([excerpt(run)], tmp_path / "x")
    lines = parsed(tmp_path / "x")
    assert all({"namespace", "time_ms", "event_type", "key", "value", "metadata"} == set(line) for line in lines)
    times = [line["time_ms"] - 1767323045000 for line in lines]
    assert times == sorted(times)
    facts = {line["key"]: line["value"] for line in lines if line["event_type"] == "POINT_IN_TIME"}
    assert facts["seed"] == 7 and facts["global_batch_size"] == 64 and facts["eval_samples"] == 100
    # The clock is rank 0's: 0.4 s a step and 0.5 s an evaluation.
    epoch = ["epoch_start", "epoch_stop", "eval_start", "eval_loss", "eval_accuracy", "train_loss", "train_accuracy"]
    course = [(line["key"], time) for line, time in zip(lines, times, strict=True)][lines.index(lines[-18]) :]
    ends = [(key, 1300) for key in (*epoch[3:], "eval_stop")]
    assert course[:9] == [("run_start", 0), ("epoch_start", 0), ("epoch_stop", 800), ("eval_start", 800), *ends]
    assert course[-1] == ("run_stop", 2600) and lines[-1]["metadata"]["status"] == "success"
    assert [li["metadata"]["epoch_num"] for li in lines if li["key"] in ("epoch_stop", "eval_accuracy")] == [1, 1, 2, 2]


def test_mllog_of_a_run_that_was_stopped_in_an_epoch(tmp_path: Path) -> None:
    fake = made_up(steps_per_epoch=3, accuracies=[0.5], train_accuracies=[], status="preempted", started="")
    mllog.write([excerpt(load_run(fake.write(tmp_path / "run")))], tmp_path / "x")
    lines = parsed(tmp_path / "x")
    keys = [line["key"] for line in lines]
    assert keys.count("epoch_start") == 2 and keys.count("epoch_stop") == 1
    assert lines[0]["time_ms"] == 0 and lines[-1]["metadata"]["status"] == "aborted"


def submission(division: str) -> str:
    """The lines that no log knows."""
    known = {"org": "none", "platform": "none", "division": division, "status": "research", "benchmark": "resnet"}
    said = {f"submission_{name}": value for name, value in known.items()} | {"cache_clear": True}
    assert tuple(said) == mllog.NOT_KNOWN
    shared = {"namespace": "", "time_ms": 0, "event_type": "POINT_IN_TIME", "metadata": {"file": "", "lineno": 0}}
    return "".join(f":::MLLOG {json.dumps({**shared, 'key': key, 'value': value})}\n" for key, value in said.items())


@pytest.mark.tool
def test_the_compliance_checker_misses_only_what_no_log_knows(tmp_path: Path) -> None:
    """By the rules of ResNet; in the closed division these are of one recipe, whose decay of the rate is polynomial."""
    name = "mlperf_logging.compliance_checker.mlp_compliance"
    compliance = pytest.importorskip(name, reason="pip install mlperf-logging")
    optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4}
    rate = {"base": 0.1, "warmup_epochs": 5}
    config = {"global_batch_size": 64, "optimizer": optimizer, "learning_rate": rate, "accumulation_steps": 1}
    provenance = {"num_train_samples": 128, "local_batch_size": 32}
    run = made_up(config=config, provenance=provenance, accuracies=[0.5, 0.76])
    mllog.write([excerpt(load_run(run.write(tmp_path / "run")))], tmp_path / "x")
    lines = (tmp_path / "x").read_text()

    def missing(before: str) -> set[str]:
        (tmp_path / "y").write_text(before + lines)
        checker = compliance.make_checker("training", "3.1.0", quiet=True, werror=False)
        is_fine = checker.check_file(str(tmp_path / "y"), "training_3.1.0/common.yaml")
        assert not checker.not_overwritable and is_fine == (not checker.overwritable)
        return set(checker.overwritable)

    # How long a start may take is a rule of the division, which names the benchmarks too.
    assert missing("") == {*mllog.NOT_KNOWN, "init_stop"} - {"submission_benchmark"}
    assert missing(submission("open")) == set()
    polynomial = ("end_learning_rate", "learning_rate_decay_poly_power", "learning_rate_decay_steps")
    assert missing(submission("closed")) == {f"sgd_opt_{name}" for name in polynomial}


@pytest.mark.tool
def test_extrap_itself_reads_its_lines(tmp_path: Path) -> None:
    reader = pytest.importorskip("extrap.fileio.file_reader.jsonlines_file_reader", reason="pip install extrap")
    excerpts = [excerpt(load_run(made_up(ranks).write(tmp_path / str(ranks)))) for ranks in (1, 2, 3, 4, 5)]
    extrap.write(excerpts, tmp_path / "x.jsonl")
    experiment = reader.read_jsonlines_file(str(tmp_path / "x.jsonl"))
    assert [parameter.name for parameter in experiment.parameters] == ["p", "local_batch"]
    assert len(experiment.coordinates) == 5 and "iteration->forward" in map(str, experiment.callpaths)


def test_extrap_measures_spans_of_several_runs(tmp_path: Path) -> None:
    runs = [made_up(2), made_up(4), made_up(4, labels="summary", local_batch_size=64)]
    excerpts = [excerpt(load_run(run.write(tmp_path / str(i)))) for i, run in enumerate(runs)]
    extrap.write(excerpts, tmp_path / "x.jsonl")
    found = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    forward = [line for line in found if line["callpath"] == "iteration->forward"]
    assert [(line["params"], line["metric"], round(line["value"], 9)) for line in forward] == [
        ({"p": p, "local_batch": batch}, f"{metric}_seconds", value)
        for p, batch, metric, value in (
            *((2, 32, "median", 0.15), (2, 32, "max", 0.2), (4, 32, "median", 0.25), (4, 32, "max", 0.4)),
            *((4, 64, "median", 0.25), (4, 64, "max", 0.4)),
        )
    ]


def test_a_log_of_an_older_version_in_all_formats(tmp_path: Path) -> None:
    selected = excerpt(load_run(old_log(2, tmp_path / "run")))
    assert len(list(tensorboard.scalars(selected))) == 18
    for write in (tables.write_csv, mllog.write, extrap.write):
        assert all(path.stat().st_size for path in write([selected], tmp_path / "x"))
    mllog.write([selected], tmp_path / "y")
    assert sum(line["key"] == "eval_accuracy" for line in parsed(tmp_path / "y")) == 3


def test_the_command_takes_a_window_unasked_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    FakeRun({"data_seconds": constant(1, 102, 65)}, ["none"] * 102).write(tmp_path / "big")
    assert main(["export", "big", "--to", "chrome"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "big.trace.json.gz\n" and (tmp_path / "big.trace.json.gz").exists()
    assert "last 100 steps, 2 to 101" in shown.err and "first 64 of 65 ranks" in shown.err
    assert main(["export", "big", "--to", "chrome", "--steps", "5:7", "--ranks", "64", "-o", "new/x.json"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and len(json.loads(Path("new/x.json").read_text())["traceEvents"]) == 6 + 2 * 2 + 2 * 2 + 2


MISTAKES = (
    (["run", "--to", "csv", "--ranks", "0,2,17"], "run.h5 has no ranks 2, 17 in these steps: it keeps 0 to 1"),
    (["run", "--to", "csv", "--ranks", "0:x"], "'0:x': write ranks with commas"),
    (["run", "--to", "csv", "--steps", "7:9"], "run.h5 has the steps 0 to 3"),
    (["run", "--to", "csv", "--steps", "9:7"], "no step in it"),
    (["run", "--to", "csv", "--steps", "a"], "'a': write FIRST:END"),
    (["run", "run", "--to", "csv"], "takes one run, not 2"),
    (["run", "--to", "mllog", "--ranks", "0"], "is of a whole run"),
    (["run", "--to", "tensorboard", "-o", "x"], "-o x/events.out.tfevents"),
    (["summary", "--to", "csv", "--ranks", "0"], "log.ranks: summary"),
    (["empty", "--to", "csv"], "no iteration is logged yet"),
    (["nowhere", "--to", "csv"], "no run log here"),
)


def test_mistakes_are_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made_up().write(tmp_path / "run")
    made_up(labels="summary").write(tmp_path / "summary")
    FakeRun({"data_seconds": constant(1, 0, 2)}, []).write(tmp_path / "empty")
    for words, said in MISTAKES:
        assert main(["export", *words]) == 2
        shown = capsys.readouterr()
        assert shown.out == "" and said in shown.err and shown.err.count("\n") == 1, words
    assert {path.name for path in tmp_path.iterdir()} == {"run", "summary", "empty"}
