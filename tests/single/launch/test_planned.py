"""Sizes of a scaling study and points of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsgd.errors import UsageError
from hpcsgd.launch.planned import (
    nodes_and_tasks,
    parse_setting,
    plan_run,
    scaling_runs,
    sweep_runs,
)
from hpcsgd.launch.probe import probe_runs
from hpcsgd.launch.site import SiteProfile
from tests.single.launch.fakes import RECIPE

SITE = SiteProfile("x", 4, name="mine")


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """A recipe with a local batch of 4 samples, of 64."""
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return str(path)


def test_nodes_are_filled() -> None:
    assert [nodes_and_tasks(ranks, SITE) for ranks in (1, 3, 4, 8, 12)] == [(1, 1), (1, 3), (1, 4), (2, 4), (3, 4)]
    assert nodes_and_tasks(6, SITE, tasks_per_node=2) == (3, 2)
    with pytest.raises(UsageError, match="6 ranks do not fill nodes of 4 at site mine: choose 4 or 8"):
        nodes_and_tasks(6, SITE)


def test_strong_scaling_keeps_the_global_batch(recipe: str) -> None:
    runs = scaling_runs(recipe, [], [4, 2, 8, 2], "strong")
    assert [run.name for run in runs] == ["gpus-2", "gpus-4", "gpus-8"]
    assert [run.ranks for run in runs] == [2, 4, 8]
    # The recipe's 4 samples a rank are those of the smallest size.
    assert {(run.config.global_batch_size, run.config.local_batch_size) for run in runs} == {(8, None)}
    given = scaling_runs(recipe, ["--local_batch_size=null", "--global_batch_size=32"], [1, 4], "strong")
    assert [run.config.global_batch_size for run in given] == [32, 32]


def test_weak_scaling_keeps_the_local_batch(recipe: str) -> None:
    runs = scaling_runs(recipe, ["--epochs=3"], [1, 2, 4], "weak")
    assert {(run.config.global_batch_size, run.config.local_batch_size) for run in runs} == {(None, 4)}
    assert {run.config.epochs for run in runs} == {3}
    given = scaling_runs(recipe, ["--local_batch_size=null", "--global_batch_size=32"], [2, 4], "weak")
    assert [run.config.local_batch_size for run in given] == [16, 16]
    with pytest.raises(UsageError, match="which the smallest size, 3, cannot share"):
        scaling_runs(recipe, ["--local_batch_size=null", "--global_batch_size=32"], [3, 6], "weak")


def test_a_size_that_cannot_be_is_named(recipe: str) -> None:
    with pytest.raises(UsageError, match="at 3 GPUs: global_batch_size is 4"):
        scaling_runs(recipe, [], [1, 3], "strong")
    with pytest.raises(UsageError, match="at 32 GPUs: one step of all ranks takes 128 samples"):
        scaling_runs(recipe, [], [1, 32], "weak")


def test_a_study_sets_its_directories_itself(recipe: str) -> None:
    for word in ("--run_dir=x", "--resume", "--overwrite=true"):
        with pytest.raises(UsageError, match="give the study's directory by -o DIR"):
            scaling_runs(recipe, [word, "none"], [1], "weak")
    with pytest.raises(UsageError, match="run_dir is set for each run"):
        sweep_runs(recipe, [], ["run_dir=a,b"], None, 1)


def test_a_sweep_is_every_combination(recipe: str) -> None:
    words = ["--algorithm.name=local_sgd"]
    runs = sweep_runs(recipe, words, ["algorithm.sync_period=1,4", "model.widths=[4,4],[8]"], 2, 2)
    assert len(runs) == 8
    found = [(run.config.algorithm.sync_period, run.config.model.widths, run.config.seed) for run in runs]
    assert found == [(period, widths, seed) for period in (1, 4) for widths in ((4, 4), (8,)) for seed in (0, 1)]
    assert runs[3].name == "sync_period-1_widths-8_seed-1"
    assert runs[3].words == (
        "--algorithm.name=local_sgd",
        "--algorithm.sync_period=1",
        "--model.widths=[8]",
        "--seed=1",
    )
    assert len({run.name for run in runs}) == 8


def test_a_point_has_the_same_name_in_every_sweep(recipe: str) -> None:
    def names(*values: str) -> set[str]:
        return {run.name for run in sweep_runs(recipe, [], [f"learning_rate.base={','.join(values)}"], 2, 1)}

    narrow, wide = names("0.02", "0.1"), names("0.1", "2e-2", "0.05", "5")
    assert narrow == {f"base-{rate}_seed-{seed}" for rate in ("0.02", "0.1") for seed in (0, 1)}
    assert narrow < wide and len(wide) == 8 and "base-5_seed-1" in wide


def test_seeds_follow_the_recipe(recipe: str) -> None:
    runs = sweep_runs(recipe, ["--seed=7"], [], 11, 1)
    assert [run.config.seed for run in runs] == list(range(7, 18))
    assert [runs[0].name, runs[10].name] == ["seed-7", "seed-17"]


@pytest.mark.parametrize(
    ("settings", "seeds", "said"),
    [
        ([], None, "needs --set KEY=VALUE,VALUE,... or --seeds N"),
        (["algorithm.sync_period=1,2"], None, "point --algorithm.sync_period=2: "),
        (["epochs=1,0"], 2, "point --epochs=0 --seed=0: "),
        (["epoch=1,2"], None, "did you mean epochs?"),
        (["local_batch_size=4,128"], None, "point --local_batch_size=128: one step"),
        (["epochs=1", "epochs=2"], None, "--set epochs is given twice"),
        (["seed=1,2"], 2, "not both"),
        (["epochs=1,1"], None, "a value is there twice"),
        (["learning_rate.base=0.1,0.2,0.10"], 2, "--set learning_rate.base=0.1 and 0.10 are twice the same value"),
        (["learning_rate.base=0.1,1e-1"], None, "--set learning_rate.base=0.1 and 1e-1 are twice the same value"),
        (["model.widths=[4,4],[4, 4]"], None, "are twice the same value"),
    ],
)
def test_points_that_cannot_be_are_named(recipe: str, settings: list[str], seeds: int | None, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        sweep_runs(recipe, [], settings, seeds, 1)
    assert said in str(refused.value)


def test_values_of_a_setting() -> None:
    assert parse_setting("a.b=1,2") == ("a.b", ("1", "2"))
    assert parse_setting("w=[1,[2,3]],[]") == ("w", ("[1,[2,3]]", "[]"))
    assert parse_setting("x=a=b") == ("x", ("a=b",))
    for text in ("a", "a=", "=1", "a=1,", "a=[1,2", "a=1]"):
        with pytest.raises(UsageError, match="write KEY=VALUE,VALUE"):
            parse_setting(text)


def test_blocks_must_divide_the_ranks(recipe: str) -> None:
    words = ["--algorithm.name=hierarchical_local_sgd", "--algorithm.block_size=2"]
    assert plan_run(recipe, words, 4).ranks == 4
    with pytest.raises(UsageError, match="block_size is 2"):
        plan_run(recipe, words, 3)


def test_a_probe_is_one_rank_and_one_node_at_the_batch_of_the_largest_size(recipe: str) -> None:
    words = ["--local_batch_size=null", "--global_batch_size=32"]
    runs = probe_runs(recipe, words, [4, 16], "strong", per_node=4)
    assert [run.name for run in runs] == [f"gpus-{ranks}-batch-{batch}" for ranks in (1, 4) for batch in (2, 4, 8)]
    assert [(run.ranks, run.config.local_batch_size) for run in runs[:2]] == [(1, 2), (1, 4)]
    assert {run.config.max_steps for run in runs} == {64}
    weak = probe_runs(recipe, ["--max_steps=9"], [2], "weak", per_node=1)
    assert [(run.ranks, run.config.local_batch_size, run.config.max_steps) for run in weak] == [
        (1, 4 * k, 9) for k in (1, 2, 4)
    ]
    with pytest.raises(UsageError, match="gpus-1-batch-128: one step of all ranks takes 128"):
        probe_runs(recipe, ["--local_batch_size=32"], [1], "weak", per_node=1)
