"""The command in one process."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hpcsgd.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
RECIPE = str(ROOT / "jobs" / "demo_local_sgd.yaml")


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"    {name} " in shown for name in COMMANDS) and "mpirun" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_a_function_of_its_words(name: str) -> None:
    """The table is of strings, which no type checker reads."""
    module, _, function = COMMANDS[name].place.partition(":")
    found = COMMANDS[name].function()
    assert (found.__module__, found.__name__) == (module, function) and function == name
    assert list(inspect.signature(found).parameters) == ["words"]


def test_train_help_lists_every_key_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--algorithm.sync_period" in shown and "local steps between two averagings" in shown


def test_print_config_is_the_resolved_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", RECIPE, "--print_config", "--algorithm.sync_period", "8", "--run_dir", "x"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["algorithm"]["sync_period"] == 8
    assert shown["run_dir"] == "x"
    assert shown["learning_rate"]["base"] == 0.05


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "/no/such.yaml"], "cannot read the recipe"),
        (["train", RECIPE, "--algorithm.sync_perod", "8"], "algorithm.sync_period?"),
        (["train", RECIPE, "--print_config", "--epochs", "0"], "epochs is 0"),
        (["train"], "local_batch_size or global_batch_size"),
        (["info", "/no/such/run"], "no run log here"),
        (["data", "fetch", "fashion_mnits"], "fashion_mnist"),
    ],
)
def test_mistakes_give_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("hpcsgd: ") and said in shown.err
    assert shown.err.count("\n") == 1


def test_a_run_and_its_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data.name=synthetic", "--data.synthetic_train_samples=64", "--model.widths=[4]", "--epochs=2"]
    run_dir = str(tmp_path / "run")
    assert main(["train", RECIPE, *words, "--global_batch_size=16", "--learning_rate.decay=none",
                 "--learning_rate.milestones=[]", "--run_dir", run_dir, "--progress", "lines"]) == 0  # fmt: skip
    said = capsys.readouterr().err
    assert "step 8/8: epoch 2: test loss" in said and run_dir in said
    assert main(["info", run_dir]) == 0
    shown = capsys.readouterr().out
    assert "completed" in shown and "local_sgd" in shown and "8 of 8 steps" in shown


def test_help_is_light() -> None:
    """In one process, for all commands: what one loads is there after the next too."""
    helps = [[], *([name] for name in COMMANDS), ["data", "fetch"], ["data", "pack"], ["study", "run"]]
    code = (
        "import sys; from hpcsgd.cli import main\n"
        f"for words in {helps!r}:\n"
        "    try: main([*words, '--help'])\n"
        "    except SystemExit as stop: assert stop.code in (None, 0)\n"
        "    found = {'torch', 'mpi4py', 'horovod', 'h5py', 'jinja2', 'pandas'} & set(sys.modules)\n"
        "    assert not found, (words, found)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def long_run(run_dir: Path, *words: str) -> subprocess.Popen[str]:
    """A training by the command, in a process of its own, whose progress can be read."""
    data = ["--data.name=synthetic", "--data.synthetic_train_samples=64", "--local_batch_size=16"]
    keys = [*data, "--model.widths=[4]", "--run_dir", str(run_dir), *words]
    return subprocess.Popen(
        [sys.executable, "-m", "hpcsgd", "train", *keys], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_hang_up_keep_what_was_trained(tmp_path: Path, number: signal.Signals) -> None:
    with long_run(tmp_path, "--epochs=1000000", "--log.flush_steps=4", "--evaluate.every_epochs=100000") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("step ")
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == 75
    assert "Traceback" not in said and "hpcsgd: asked to stop; the state after" in said.splitlines()[-1]
    assert any((tmp_path / "checkpoints").iterdir())


def test_a_reader_that_leaves_does_not_end_a_training(tmp_path: Path) -> None:
    with long_run(tmp_path, "--epochs=20") as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
    assert process.returncode == 0 and (tmp_path / "model.pt").exists()
