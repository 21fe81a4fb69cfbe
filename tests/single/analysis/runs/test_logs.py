"""Runs found, named and told apart; what is missing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from draw.script import Output
from hpcsgd.record.reader import load_run
from hpcsgd.record.study_file import Entry as Planned
from hpcsgd.record.study_file import Study
from runs import logs as run_logs
from tests.single.analysis.fake_runs import FakeRun, constant, trial


def simple(num_steps: int = 3, ranks: int = 2, **options: object) -> FakeRun:
    return FakeRun({"forward_seconds": constant(1, num_steps, ranks)}, ["gradient"] * num_steps, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x", "b/x", "b/y"], ["a/x", "b/x", "y"]),
        (["a/x"], ["x"]),
        (["r/a/x", "s/a/x"], ["r/a/x", "s/a/x"]),
    ],
)
def test_names_are_as_short_as_they_can_be(paths: list[str], names: list[str]) -> None:
    assert run_logs.unique_names([Path(path) for path in paths]) == names


@pytest.mark.parametrize(
    ("algorithm", "text"),
    [
        ({"name": "sync_sgd", "sync_period": 1}, "sync. SGD"),
        ({"name": "local_sgd", "sync_period": 8}, "local SGD, H = 8"),
        (
            {"name": "post_local_sgd", "sync_period": 16, "local_start": "epoch:4"},
            "post-local SGD, H = 16 from epoch 4",
        ),
        (
            {"name": "post_local_sgd", "sync_period": 16, "local_start": "first_lr_drop"},
            "post-local SGD, H = 16 from the first drop",
        ),
        (
            {"name": "hierarchical_local_sgd", "sync_period": 4, "block_sync_period": 2, "local_start": None},
            "hierarchical local SGD, H = 4, H_b = 2",
        ),
        ({"name": "sma", "sync_period": 2}, "SMA, τ = 2"),
        ({}, "unknown algorithm, H = ?"),
    ],
)
def test_algorithms_in_words(algorithm: dict[str, object], text: str) -> None:
    assert run_logs.algorithm_text({"algorithm": algorithm}) == text


def test_learners_of_a_rank_count_in_the_batch(tmp_path: Path) -> None:
    """2 ranks of 4 learners of 16 samples; from either batch size of the recipe."""
    for name, sizes in (("local", {"local_batch_size": 16}), ("global", {"global_batch_size": 128})):
        config = {"learners_per_rank": 4, "local_batch_size": None, **sizes}
        simple(config=config).write(tmp_path / name)
    for entry in run_logs.load([str(tmp_path)])[0]:
        assert (entry.local_batch_size, entry.global_batch_size) == (16, 128)
        assert entry.label.endswith("2 ranks of 4 learners")


@pytest.mark.parametrize(
    "told",
    [
        {"provenance": {"learners_per_rank": 4, "num_learners": 8}},
        {"provenance": {"num_learners": 8}},
        {"tuner": [trial(1, "start"), trial(4, "taken"), trial(6, "refused"), trial(8, "impossible")]},
        {},
    ],
)
def test_learners_that_the_tuner_chose_are_read_from_the_log(tmp_path: Path, told: dict[str, object]) -> None:
    """2 ranks of 4 learners of 8 samples: told by the provenance, the trials, or the 32 samples of a step."""
    run = simple(config={"learners_per_rank": "auto", "local_batch_size": 8}, **told).write(tmp_path / "run")
    (entry,), _ = run_logs.load([str(run)])
    assert (entry.learners_per_rank, entry.local_batch_size, entry.global_batch_size) == (4, 8, 64)
    assert entry.label.endswith("2 ranks of 4 learners")


def test_labels_tell_algorithm_ranks_and_status(tmp_path: Path) -> None:
    simple().write(tmp_path / "done")
    simple(ranks=1, status="running").write(tmp_path / "going")
    entries, problems = run_logs.load([str(tmp_path)])
    assert problems == []
    assert [item.label for item in entries] == ["done: sync. SGD, 2 ranks", "going: sync. SGD, 1 rank [running]"]
    assert "going: still running, or killed; what its log holds so far is used." in run_logs.log_notes(entries, [])
    assert run_logs.caption(entries, []) == "[running]: drawn as far as logged."


def test_runs_on_an_emulated_machine_say_so_in_every_label_and_caption(tmp_path: Path) -> None:
    simple(provenance={"emulated": "compute (step_seconds 0.02)"}).write(tmp_path / "tunnel")
    simple(ranks=1).write(tmp_path / "real")
    entries, _ = run_logs.load([str(tmp_path)])
    assert [item.label for item in entries] == ["real: sync. SGD, 1 rank", "tunnel: sync. SGD, 2 ranks, emulated"]
    output = Output.of_runs(tmp_path, entries, [])
    assert output.caption == "EMULATED machine, by waiting: tunnel; the tables say what."
    assert output.notes[0].startswith("tunnel: emulated compute (step_seconds 0.02): these times are not those")
    assert "all runs" in Output.of_runs(tmp_path, entries[1:], []).caption
    assert Output.of_runs(tmp_path, entries[:1], []).caption == ""


def test_missing_half_written_and_empty_runs_are_named(tmp_path: Path) -> None:
    good = simple().write(tmp_path / "good")
    simple(num_steps=0).write(tmp_path / "empty")
    half = tmp_path / "half"
    half.mkdir()
    (half / "run.h5").write_bytes((good / "run.h5").read_bytes()[:2000])
    (tmp_path / "nothing").mkdir()
    names = ["good", "empty", "half", "nothing", "absent"]
    entries, problems = run_logs.load([str(tmp_path / name) for name in names])
    assert [item.name for item in entries] == ["good"]
    assert len(problems) == 4
    for name in names[1:]:
        assert sum(str(tmp_path / name) in line for line in problems) == 1, name
    notes = run_logs.log_notes(entries, problems)
    assert [line for line in notes if line.startswith("Not read: ")] == [f"Not read: {line}" for line in problems]
    assert str(half / "run.h5") in run_logs.caption(entries, problems)


def test_a_run_named_twice_is_one_run(tmp_path: Path) -> None:
    directory = simple().write(tmp_path / "run")
    entries, _ = run_logs.load([str(directory), str(directory / "run.h5"), str(tmp_path)])
    assert len(entries) == 1


def test_sizes_follow_from_either_batch(tmp_path: Path) -> None:
    given = run_logs.entry(load_run(simple(ranks=4, local_batch_size=8).write(tmp_path / "a")), "a")
    assert (given.world_size, given.local_batch_size, given.global_batch_size) == (4, 8, 32)
    config = {"local_batch_size": None, "global_batch_size": 128}
    derived = run_logs.entry(load_run(simple(ranks=4, config=config).write(tmp_path / "b")), "b")
    assert (derived.local_batch_size, derived.global_batch_size) == (32, 128)


def test_what_a_log_does_not_hold_is_said(tmp_path: Path) -> None:
    simple(ranks=4, labels=[0, 2]).write(tmp_path / "node")
    simple(ranks=4, labels="summary").write(tmp_path / "summary")
    entries, _ = run_logs.load([str(tmp_path)])
    notes = run_logs.log_notes(entries, [])
    assert notes[0].startswith("node: log.ranks is node: 2 of 4 ranks are in its log")
    assert notes[1].startswith("summary: log.ranks is summary")
    table = run_logs.runs_table(entries)
    assert table["logged_ranks"].tolist() == ["2", "min, median, max"]
    assert table["num_steps"].tolist() == [3, 3]


def test_runs_without_a_log_are_named_once(tmp_path: Path) -> None:
    simple().write(tmp_path / "study" / "done")
    for name in ("begun", "study/failed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").touch()
    entries = tuple(Planned(name, None) for name in ("done", "failed", "never"))
    Study(tmp_path / "study", (), "/", entries).save()
    runs, problems = run_logs.load([str(tmp_path), str(tmp_path)])
    assert [item.name for item in runs] == ["done"]
    missing = [tmp_path / name for name in ("begun", "study/failed", "study/never")]
    assert problems == [
        f"{path}: no log: the run was not begun, or failed before its first iteration" for path in missing
    ]
    (tmp_path / "study" / "jobs.json").write_text("{}")
    assert any("no record of jobs" in line for line in run_logs.load([str(tmp_path)])[1])


def test_where_a_run_was_resumed_is_said(tmp_path: Path) -> None:
    simple(num_steps=9, resumed=[2, 5]).write(tmp_path / "same")
    simple(num_steps=9, first_step=4, steps_per_epoch=20).write(tmp_path / "smaller")
    notes = run_logs.log_notes(run_logs.load([str(tmp_path)])[0], [])
    assert notes[0] == "same: it was resumed at step 2, 5."
    assert notes[1].startswith(
        "smaller: its log and its clocks begin at step 4, where it was resumed on another number"
    )
