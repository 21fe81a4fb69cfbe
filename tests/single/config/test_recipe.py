"""Recipes: what is accepted, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsgd.config import AlgorithmConfig, LearningRateConfig, RunConfig, parse_local_start
from hpcsgd.config.recipe import dotted, known_keys, load_config, to_dict, to_yaml
from hpcsgd.errors import UsageError

JOBS = Path(__file__).parents[3] / "jobs"


STUDIES = sorted(path for path in JOBS.glob("**/*.yaml") if "\nbatch_sizes:" in f"\n{path.read_text()}")


@pytest.mark.parametrize("recipe", sorted(set(JOBS.glob("**/*.yaml")) - set(STUDIES)), ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_comes_back_from_its_own_text(recipe: Path, tmp_path: Path) -> None:
    config = load_config(str(recipe), [])
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(config))
    assert load_config(str(copy), []) == config


def test_command_line_wins_over_recipe_and_recipe_over_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("local_batch_size: 8\nepochs: 3\nlearning_rate: {base: 1e-3, scaling_rule: none}\n")
    config = load_config(str(recipe), ["--epochs=7", "--learning_rate.base", "0.5", "--model.widths", "[3]"])
    assert (config.epochs, config.local_batch_size, config.seed) == (7, 8, 0)
    assert (config.learning_rate.base, config.learning_rate.scaling_rule) == (0.5, "none")
    assert config.model.widths == (3,)
    assert load_config(str(recipe), []).learning_rate.base == 1e-3


@pytest.mark.parametrize(
    ("content", "overrides", "words"),
    [
        ("model: {name: lstm}\n", [], ["'lstm'", "'fashion_mnist'", "a network for images"]),
        ("data: {name: text}\n", [], ["'fully_connected'", "choose lstm or transformer"]),
        ("data: {name: text, flip: true}\n", [], ["data.flip is True, which counts for", "leave data.flip out"]),
        ("algoritm: {name: sync_sgd}", [], ["algoritm", "algorithm?"]),
        ("algorithm: {sync_perod: 8}", [], ["algorithm.sync_perod", "algorithm.sync_period?"]),
        ("sync_period: 8", [], ["sync_period", "algorithm.sync_period?"]),
        ("", ["--run-dir", "x"], ["run-dir", "run_dir?"]),
        ("epochs: many", [], ["epochs", "'many'", "integer"]),
        ("", ["--epochs", "1.5"], ["epochs", "1.5", "integer"]),
        ("", ["--epochs"], ["--epochs", "expected one argument"]),
        ("", ["stray"], ["stray", "recipe"]),
        ("model: {name: resnet9}", [], ["model.name", "resnet9", "resnet8?"]),
        ("model: 3", [], ["model"]),
        ("algorithm: {name: local_sgd, sync_period: 0}", [], ["algorithm.sync_period", "0", "1 or more"]),
        ("algorithm: {name: sync_sgd, sync_period: 4}", [], ["algorithm.sync_period", "4", "local_sgd"]),
        ("algorithm: {name: post_local_sgd}", [], ["algorithm.local_start", "first_lr_drop"]),
        ("algorithm: {name: post_local_sgd, local_start: first_lr_drop}", [], ["first_lr_drop", "decay: step"]),
        ("algorithm: {name: post_local_sgd, local_start: soon}", [], ["algorithm.local_start", "soon", "epoch:N"]),
        ("algorithm: {name: local_sgd, block_sync_period: 2}", [], ["algorithm.block_sync_period", "local_sgd"]),
        ("algorithm: {name: sma, period_schedule: {kind: linear}}", [], ["period_schedule.kind", "constant for sma"]),
        ("algorithm: {name: local_sgd, period_schedule: {kind: power}}", [], ["period_schedule.alpha", "kind power"]),
        ("algorithm: {name: local_sgd, period_schedule: {alpha: 1}}", [], ["period_schedule.kind power only"]),
        ("algorithm: {name: local_sgd, period_schedule: {kind: stagd}}", [], ["period_schedule.kind", "staged?"]),
        ("algorithm: {name: local_sgd, period_schedule: {kind: staged}}", [], ["'staged'", "decay: step"]),
        ("algorithm: {name: local_sgd, period_schedule: {kind: divergence}}", [], ["period_schedule.target"]),
        (
            "algorithm: {name: local_sgd, sync_period: 9, period_schedule: {kind: divergence, target: 1, largest: 8}}",
            [],
            ["period_schedule.largest", "9 or more"],
        ),
        ("algorithm: {name: local_sgd, sync_period: 4, overlap_steps: 4}", [], ["algorithm.overlap_steps", "0 to 3"]),
        (
            "algorithm: {name: local_sgd, sync_period: 4, overlap_steps: 2}\non_failure: shrink",
            [],
            ["on_failure is 'shrink'", "algorithm.overlap_steps is 2"],
        ),
        (
            "algorithm: {name: diloco, sync_period: 4, overlap_steps: 2, "
            "period_schedule: {kind: divergence, target: 1}}",
            [],
            ["algorithm.overlap_steps", "divergence"],
        ),
        ("algorithm: {name: sma, sync_period: 4, overlap_steps: 2}", [], ["algorithm.overlap_steps", "0 for sma"]),
        ("algorithm: {name: diloco, overlap_fragments: 2}", [], ["overlap_fragments", "1 without overlap_steps"]),
        ("algorithm: {name: diloco, outer_step: average}", [], ["algorithm.outer_step", "nesterov or an import path"]),
        ("algorithm: {name: sync_sgd, outer_step: nesterov}", [], ["algorithm.outer_step", "unset for sync_sgd"]),
        ("algorithm: {name: local_sgd, outer_step: nestrov}", [], ["algorithm.outer_step", "nesterov?"]),
        ("algorithm: {name: local_sgd, outer_momentum: 0.5}", [], ["outer_momentum", "outer_step nesterov only"]),
        (
            "algorithm: {name: diloco, outer_init_args: {a: 1}}",
            [],
            ["outer_init_args", "unset for outer_step nesterov"],
        ),
        ("algorithm: {name: diloco, outer_final_fraction: 0.5}", [], ["outer_schedule linear or cosine only"]),
        ("algorithm: {name: local_sgd, alpha: 0.1}", [], ["algorithm.alpha", "unset for local_sgd"]),
        ("learners_per_rank: 0", [], ["learners_per_rank", "0", "1 or more, or auto"]),
        ("learners_per_rank: most", [], ["learners_per_rank", "most", "auto"]),
        (
            "learners_per_rank: auto",
            ["--local_batch_size=null", "--global_batch_size=64"],
            ["learners_per_rank is 'auto'", "global_batch_size is 64", "give local_batch_size"],
        ),
        (
            "learners_per_rank: auto\non_failure: shrink\nalgorithm: {name: sma}",
            [],
            ["on_failure is 'shrink'", "learners_per_rank is auto"],
        ),
        ("log: {noise_scale: true}\nalgorithm: {name: sma}", [], ["log.noise_scale", "false for sma"]),
        ("tuner: {max_learners: 0}", [], ["tuner.max_learners", "0", "1 or more"]),
        ("tuner: {window_seconds: 0}", [], ["tuner.window_seconds", "0", "positive"]),
        ("engine: fusd", [], ["engine", "fusd", "fused?"]),
        ("learners_per_rank: 2\ncomm: {overlap: true}", [], ["comm.overlap", "learners_per_rank is 2"]),
        (
            "learners_per_rank: 2\non_failure: shrink\nalgorithm: {name: sma}",
            [],
            ["on_failure is 'shrink'", "learners_per_rank is 2", "learners_per_rank: 1"],
        ),
        ("algorithm: {name: sma, alpha: -0.1}", [], ["algorithm.alpha", "-0.1", "0 or more"]),
        ("algorithm: {name: sma, central_momentum: 1}", [], ["algorithm.central_momentum", "[0, 1)"]),
        ("algorithm: {name: sma, restart: sometimes}", [], ["algorithm.restart", "sometimes"]),
        ("algorithm: {name: sma, momentum_policy: reset}", [], ["algorithm.momentum_policy", "local for sma"]),
        ("algorithm: {name: sma, block_size: 2}", [], ["algorithm.block_size", "block_sync_period 1"]),
        ("algorithm: {name: sma, local_start: 'step:2'}", [], ["algorithm.local_start", "unset for sma"]),
        ("algorithm: {name: ea_sgd, central_momentum: 0.5}", [], ["algorithm.central_momentum", "0 for ea_sgd"]),
        ("algorithm: {name: ea_sgd, restart: reset}", [], ["algorithm.restart", "none for ea_sgd"]),
        ("algorithm: {name: sma, block_sync_period: 2}\ncomm: {overlap: true}", [], ["comm.overlap", "block_sync"]),
        ("algorithm: {name: sma}\non_failure: shrink\ncomm: {overlap: true}", [], ["comm.overlap", "shrink"]),
        ("algorithm: {name: sma}\non_failure: shrink\ncomm: {averaging: nccl}", [], ["comm.averaging", "shrink"]),
        ("algorithm: {name: sma}\ncomm: {wire: sign}", [], ["comm.wire is 'sign'", "full for sma"]),
        ("comm: {wire: int8}", [], ["comm.wire is 'int8'", "full for sync_sgd"]),
        ("algorithm: {name: local_sgd}\ncomm: {gradient_wire: top_k}", [], ["comm.gradient_wire", "for local_sgd"]),
        ("comm: {gradient_wire: ef_sign, allreduce: horovod}", [], ["comm.allreduce is 'horovod'", "auto"]),
        ("comm: {gradient_wire: ef_sign, overlap: true}", [], ["comm.overlap is True", "unset"]),
        ("comm: {gradient_wire: ef_sign}\nprecision: float16", [], ["comm.gradient_wire", "bfloat16", "loss scale"]),
        ("comm: {gradient_wire: bfloat16, top_k_density: 0.1}", [], ["comm.top_k_density is 0.1", "left out"]),
        ("comm: {gradient_wire: top_k, top_k_density: 0}", [], ["comm.top_k_density", "(0, 1]"]),
        (
            "algorithm: {name: local_sgd}\non_failure: shrink\ncomm: {wire: ef_sign}",
            [],
            ["on_failure is 'shrink'", "comm.wire is 'ef_sign'", "error memory"],
        ),
        ("optimizer: {sign: true, momentum_form: absorbed}", [], ["optimizer.sign", "momentum_form reference"]),
        ("optimizer: {sign: true, name: torch.optim.AdamW}", [], ["optimizer.sign", "left out with torch.optim.AdamW"]),
        (
            "algorithm: {name: local_sgd, sync_period: 4, overlap_steps: 2}\ncomm: {wire: sign}",
            [],
            ["comm.wire", "full with algorithm.overlap_steps"],
        ),
        ("algorithm: {name: local_sgd}\non_failure: shrink\ncomm: {averaging: shared}", [], ["'shared'", "shrink"]),
        ("algorithm: {name: sma}\ncomm: {averaging: shared}", [], ["comm.averaging", "sma sums corrections"]),
        ("learning_rate: {decay: step}", [], ["learning_rate.milestones"]),
        ("learning_rate: {decay: step, milestones: [3, 2]}", [], ["learning_rate.milestones", "rising"]),
        ("optimizer: {momentum: 1.0}", [], ["optimizer.momentum", "1.0"]),
        ("model: {zero_gamma: true}", [], ["model.zero_gamma", "residual"]),
        ("global_batch_size: 8", [], ["local_batch_size", "global_batch_size"]),
        ("epochs: [", [], ["YAML"]),
        ("- 3", [], ["mapping", "list"]),
        ("epochs: 2\nepochs: 3", [], ["epochs is given twice", "lines 1 and 2"]),
        ("model: {widths: [3]}\ndata: {flip: true}\nmodel: {}", [], ["model is given twice", "lines 1 and 3"]),
        ("data:\n  flip: true\n  dir: x\n  flip: false", [], ["flip is given twice", "lines 2 and 4"]),
        ("learning_rate.base: 1\nlearning_rate: {base: 2}", [], ["learning_rate.base", "with dots"]),
        ("seed: 010", [], ["line 1", "010", "leading zero", "write 10"]),
        ("model: {widths: [8, 08]}", [], ["08", "leading zero"]),
        ("", ["--seed", "010"], ["the command line", "seed", "write 010 as a plain"]),
        ("", ["--model.widths=[8,-08]"], ["model.widths", "write -08 as a plain"]),
        ("seed: 1:30", [], ["seed", "1:30", "plain decimal"]),
        ("seed: 1_000", [], ["seed", "1_000", "plain decimal"]),
        ("a: &a [*a]", [], ["nested"]),
        ("epochs: " + 999 * "[", [], ["nested"]),
        ("faults: {collective_timeout_seconds: .inf}", [], ["faults.collective_timeout_seconds", "finite"]),
        ("", ["--faults.collective_timeout_seconds", "1e12"], ["faults.collective_timeout_seconds", "1e+09"]),
        ("learning_rate: {base: .nan}", [], ["learning_rate.base", "finite"]),
        ("learning_rate: {decay: step, milestones: [1, .inf]}", [], ["learning_rate.milestones", "finite"]),
        (f"epochs: {2**63}", [], ["epochs", "at most 2147483647"]),
        (f"seed: {2**63}", [], ["seed", "at most"]),
        ("learning_rate: {base: 1e31}", [], ["learning_rate.base", "at most 1e+30"]),
        ("log: {flush_steps: 10000000}", [], ["log.flush_steps", "1 to 1000000"]),
        ("threads: 100000", [], ["threads", "1 to 1024"]),
        ("device: null", [], ["device is None", "left out for its default, 'auto'"]),
        ("data: {flip: null}", [], ["data.flip is None", "its default, False"]),
        ("model: {name: null}", [], ["model.name is None", "fully_connected"]),
        ("run_dir: ''", [], ["run_dir", "it must be a path"]),
        ("algorithm: {name: post_local_sgd, local_start: ''}", [], ["algorithm.local_start", "empty"]),
    ],
)
def test_bad_recipes_are_refused_by_name(tmp_path: Path, content: str, overrides: list[str], words: list[str]) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(content + ("" if content.startswith(("-", "epochs: [")) else "\nlocal_batch_size: 4\n"))
    with pytest.raises(UsageError) as caught:
        load_config(str(recipe), overrides)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("content", "key", "value"),
    [
        ("learning_rate.base: 0.4\nlearning_rate: {warmup: gradual}", "learning_rate.base", 0.4),
        ("learning_rate: {base: 1e-3}", "learning_rate.base", 1e-3),
        ("run_dir: 2026-11-28", "run_dir", "2026-11-28"),
        ("run_dir: no", "run_dir", "no"),
        ("run_dir: '010'", "run_dir", "010"),
        ("data: &d {flip: true}\nmodel: {widths: [1]}", "data.flip", True),
        ("data: {flip: yes}", "data.flip", True),
        ("\ufeffseed: 3", "seed", 3),
    ],
)
def test_a_recipe_is_read_as_it_looks(tmp_path: Path, content: str, key: str, value: object) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{content}\nlocal_batch_size: 4\n", encoding="utf-8")
    assert dict(dotted(to_dict(load_config(str(recipe), []))))[key] == value


def test_missing_recipe_is_named() -> None:
    with pytest.raises(UsageError, match="/no/such.yaml: No such file"):
        load_config("/no/such.yaml", [])


def test_a_batch_size_is_asked_for() -> None:
    with pytest.raises(ValueError, match="either local_batch_size or global_batch_size"):
        RunConfig()


@pytest.mark.parametrize(
    ("text", "parsed"), [("first_lr_drop", ("first_lr_drop", 0)), ("epoch:30", ("epoch", 30)), ("step:0", ("step", 0))]
)
def test_local_start_forms(text: str, parsed: tuple[str, int]) -> None:
    assert parse_local_start(text) == parsed


@pytest.mark.parametrize(
    "text", ["epoch", "epoch:", "epoch:-1", "epoch:1.5", "steps:3", "epoch:\u0663", "step:" + "9" * 5000, "xepoch:1"]
)
def test_local_start_refuses_other_forms(text: str) -> None:
    with pytest.raises(ValueError, match="first_lr_drop, epoch:N or step:N"):
        AlgorithmConfig(name="post_local_sgd", local_start=text)


def test_decay_without_milestones_only_for_step() -> None:
    with pytest.raises(ValueError, match="milestones"):
        LearningRateConfig(decay="cosine", milestones=(3.0,))


def test_known_keys_are_dotted() -> None:
    keys = known_keys()
    assert {"epochs", "algorithm", "algorithm.sync_period", "log.flush_steps"} <= set(keys)
