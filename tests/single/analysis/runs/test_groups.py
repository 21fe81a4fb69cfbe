"""What two runs must share to be of one setting, and what tells them apart in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from runs.groups import by_seed, differing, frozen, rate_text, repeats, same_setting, way, work
from runs.logs import Entry
from tests.single.analysis.goyal_runs import goyal_entry


def test_runs_of_one_key_stand_by_seed(tmp_path: Path) -> None:
    runs = [goyal_entry(tmp_path / name, seed=seed, test=[9.0]) for name, seed in (("b", 2), ("a", 3), ("c", 1))]
    runs.append(goyal_entry(tmp_path / "other", config={"epochs": 3}, test=[9.0]))
    groups = by_seed(runs, lambda item: frozen(work(item)))
    assert [[item.name for item in same] for same in groups] == [["c", "b", "a"], ["other"]]
    assert [item.name for item in by_seed(runs, lambda item: frozen(work(item, ["epochs"])))[0]][0] == "other"


def test_of_a_seed_that_was_trained_again_the_last_that_ended_counts(tmp_path: Path) -> None:
    def run(name: str, day: int, status: str = "completed", **conduct: object) -> Entry:
        started = f"2026-01-{day:02}T00:00:00+00:00"
        return goyal_entry(tmp_path / name, test=[9.0], status=status, started=started, config=conduct)

    runs = [run("second", 2), run("first", 1, threads=2), run("failed", 3, "failed"), run("diverged", 4, "diverged")]
    groups = by_seed(runs, lambda item: frozen(work(item)))
    assert [[item.name for item in same] for same in groups] == [["second"]]
    said = repeats(runs, lambda item: frozen(work(item)))
    assert [line.split(":")[0] for line in said] == ["failed", "diverged", "first"]
    assert all("same seed of the same setting as second, which alone counts" in line for line in said)
    assert [item.name for item in by_seed(runs[2:3], lambda item: 0)[0]] == ["failed"]


def test_learners_that_the_tuner_found_count_as_such(tmp_path: Path) -> None:
    found = {"provenance": {"learners_per_rank": 4}, "config": {"learners_per_rank": "auto", "tuner": {"windows": 3}}}
    runs = [
        goyal_entry(tmp_path / "auto", test=[9.0], **found),
        goyal_entry(tmp_path / "given", config={"learners_per_rank": 4}, test=[9.0]),
    ]
    assert work(runs[0]) == work(runs[1])


def test_a_setting_leaves_out_the_seed_and_the_conduct_alone(tmp_path: Path) -> None:
    runs = [
        goyal_entry(tmp_path / "a", seed=1, config={"threads": 2}, test=[9.0]),
        goyal_entry(tmp_path / "b", seed=2, test=[9.0]),
        goyal_entry(tmp_path / "parts", config={"accumulation_steps": 2}, test=[9.0]),
        goyal_entry(tmp_path / "loss", config={"loss": {"name": "mynets.dice"}}, test=[9.0]),
    ]
    assert [[item.name for item in same] for same in by_seed(runs, same_setting)] == [["a", "b"], ["parts"], ["loss"]]


def test_only_what_differs_is_said() -> None:
    values = {"x": {"a": "1", "b": "2", "c": "3"}, "y": {"a": "1", "b": "5"}, "z": {"b": "2", "c": "3"}}
    assert differing(values) == {"x": "b: 2", "y": "b: 5", "z": "b: 2"}
    assert differing(values, said=["b"]) == {"x": "", "y": "", "z": ""}


def test_a_warm_up_that_there_is_not_has_no_length(tmp_path: Path) -> None:
    without, gradual = (goyal_entry(tmp_path / kind, warmup=kind, test=[9.0]) for kind in ("none", "gradual"))
    assert way(without) == {"rate": "η = 0.01·kn/64", "warmup": "none"}
    assert way(gradual)["learning_rate.warmup_epochs"] == "1.0"


@pytest.mark.parametrize(
    ("rule", "text"), [("linear", "η = 0.1·kn/256"), ("sqrt", "η = 0.1·√(kn/256)"), ("none", "η = 0.1")]
)
def test_the_rate_as_a_formula(rule: str, text: str) -> None:
    assert rate_text({"learning_rate": {"base": 0.1, "base_batch_size": 256, "scaling_rule": rule}}) == text
