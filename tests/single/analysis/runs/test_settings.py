"""Which runs are one setting, a series, a comparison; by runs that differ in known ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from runs.logs import Entry
from runs.settings import (
    ORDER,
    RULES,
    WARMUPS,
    Setting,
    find_comparisons,
    find_series,
    find_settings,
    kind_text,
)
from tests.single.analysis.goyal_runs import goyal_entry


def names(setting: Setting) -> list[str]:
    return [item.name for item in setting.entries]


@pytest.fixture
def study(tmp_path: Path) -> list[Entry]:
    """Two sizes with gradual warm-up, two seeds of the first; at the second all warm-ups and an unscaled rate."""
    runs = (
        ("b", 64, {"seed": 1}),
        ("a", 64, {"seed": 0}),
        ("large", 128, {}),
        ("none", 128, {"warmup": "none"}),
        ("constant", 128, {"warmup": "constant"}),
        ("unscaled", 128, {"rule": "none"}),
    )
    return [goyal_entry(tmp_path / name, batch, test=[9.0], **options) for name, batch, options in runs]


def test_every_rule_and_warm_up_has_its_place() -> None:
    assert sorted(ORDER) == sorted((rule, warmup) for rule in RULES for warmup in WARMUPS)


def test_runs_that_differ_in_their_seed_are_one_setting_by_seed(study: list[Entry]) -> None:
    settings = find_settings(study)
    assert [names(setting) for setting in settings] == [["none"], ["constant"], ["a", "b"], ["large"], ["unscaled"]]
    assert [setting.global_batch_size for setting in settings] == [128, 128, 64, 128, 128]
    assert settings[2].series == settings[3].series == "η = 0.01·kn/64, gradual warm-up"
    assert settings[2].name == "η = 0.01·kn/64, gradual warm-up; kn = 64; 1 rank"
    assert settings[3].learning_rate == 0.02
    assert [setting.kind for setting in settings[:2]] == ["no warm-up", "constant warm-up"]
    assert settings[4].kind == kind_text("none", "gradual") == "unscaled η, gradual warm-up"
    assert {setting.workload for setting in settings} == {""}


def test_series_differ_in_the_minibatch_and_comparisons_in_the_warm_up(study: list[Entry]) -> None:
    settings = find_settings(study)
    assert [[names(item) for item in series] for series in find_series(settings)] == [[["a", "b"], ["large"]]]
    (found,) = find_comparisons(settings)
    assert found.global_batch_size == 128
    assert [names(item) for item in found.settings] == [["none"], ["constant"], ["large"], ["unscaled"]]
    assert found.baseline is not None and names(found.baseline) == ["a", "b"]


def test_a_comparison_at_the_smallest_minibatch_has_no_baseline(tmp_path: Path) -> None:
    runs = [goyal_entry(tmp_path / warmup, warmup=warmup, test=[9.0]) for warmup in ("gradual", "none")]
    (found,) = find_comparisons(find_settings(runs))
    assert found.baseline is None


def test_the_baseline_has_the_rule_and_warm_up_of_one_that_it_is_compared_with(tmp_path: Path) -> None:
    runs = [
        goyal_entry(tmp_path / f"{rule}-{warmup}-{batch}", batch, rule=rule, warmup=warmup, test=[9.0])
        for rule, warmup, batch in (("sqrt", "none", 64), ("linear", "gradual", 64), ("linear", "gradual", 128))
    ]
    runs.append(goyal_entry(tmp_path / "constant", 128, warmup="constant", test=[9.0]))
    found, small = find_comparisons(find_settings(runs))
    assert (found.global_batch_size, small.global_batch_size) == (128, 64)
    assert found.baseline is not None and names(found.baseline) == ["linear-gradual-64"]


def test_how_a_run_is_conducted_makes_no_setting_but_what_is_trained_does(tmp_path: Path) -> None:
    conducts = (
        {"comm": {"allreduce": "torch"}},
        {"checkpoint": {"keep": 3}},
        {"data": {"name": "synthetic", "dir": "x"}},
    )
    runs = [goyal_entry(tmp_path / str(i), config=config, test=[9.0]) for i, config in enumerate(conducts)]
    assert len(find_settings(runs)) == 1
    other = goyal_entry(tmp_path / "other", config={"optimizer": {"momentum": 0.5}}, test=[9.0])
    third = goyal_entry(tmp_path / "third", config={"optimizer": {"momentum": 0.9}}, test=[9.0])
    settings = find_settings([other, third])
    assert [setting.workload for setting in settings] == ["optimizer.momentum: 0.5", "optimizer.momentum: 0.9"]
    assert settings[0].series == "η = 0.01·kn/64, gradual warm-up; optimizer.momentum: 0.5"
    assert find_comparisons(settings) == [] and find_series(settings) == []


def test_ranks_and_accumulation_make_settings_of_one_series(tmp_path: Path) -> None:
    runs = [
        goyal_entry(tmp_path / "one", 64, test=[9.0]),
        goyal_entry(tmp_path / "two", 64, ranks=2, test=[9.0]),
        goyal_entry(tmp_path / "parts", 64, config={"accumulation_steps": 4}, test=[9.0]),
    ]
    settings = find_settings(runs)
    assert sorted(setting.name.rpartition("kn = ")[2] for setting in settings) == [
        "64; 1 rank",
        "64; 1 rank, 4 accumulation steps",
        "64; 2 ranks",
    ]
    assert len({setting.series for setting in settings}) == 1
    assert find_series(settings) == [], "one minibatch is no series"


def test_the_length_of_a_warm_up_that_there_is_not_makes_no_difference(tmp_path: Path) -> None:
    def rate(warmup: str, epochs: float) -> dict[str, object]:
        section = {"base": 0.1, "base_batch_size": 256, "scaling_rule": "linear"}
        return {"learning_rate": {**section, "warmup": warmup, "warmup_epochs": epochs}}

    runs = [
        goyal_entry(tmp_path / f"{warmup}{epochs}", seed=int(epochs), config=rate(warmup, epochs), test=[9.0])
        for warmup in ("none", "gradual")
        for epochs in (1.0, 2.0)
    ]
    assert [(setting.series, len(setting.entries)) for setting in find_settings(runs)] == [
        ("η = 0.1·kn/256, no warm-up", 2),
        ("η = 0.1·kn/256, gradual warm-up; learning_rate.warmup_epochs: 1.0", 1),
        ("η = 0.1·kn/256, gradual warm-up; learning_rate.warmup_epochs: 2.0", 1),
    ]
