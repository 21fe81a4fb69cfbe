"""``hpcsgd predict``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hpcsgd.config import paths
from hpcsgd.errors import UsageError
from hpcsgd.record.reader import Run, find_runs
from hpcsgd.record.summary import seconds as seconds_text
from hpcsgd.scaling import kept
from hpcsgd.scaling.methods import parse_method

DEFAULT_METHODS = (
    *("sync_sgd", "local_sgd:4", "local_sgd:16", "post_local_sgd:16"),
    *("hierarchical_local_sgd:4x4", "sma:1", "local_sgd:4+late=2", "local_sgd:4+ef_sign"),
)

EPILOG = """examples:
  hpcsgd predict runs/probe --gpus 64,512 --batch 32
  hpcsgd predict runs/probe --gpus 4096 --algorithm sync_sgd,local_sgd:16 --network site.toml --limit_gpu_hours 500

An algorithm is NAME, NAME:H or hierarchical_local_sgd:HxB, with +late=Q (steps that an averaging may go on beside the
training) and +WIRE (bfloat16, ef_sign, ...) after it. Every interval is where 90 % of the draws lie.
"""

COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("iteration", "iteration_seconds", seconds_text),
    ("epoch", "epoch_seconds", seconds_text),
    ("samples/s", "samples_per_second", "{:,.0f}".format),
    ("efficiency", "efficiency", "{:.0%}".format),
    ("waiting", "waited", "{:.0%}".format),
    ("hours", "hours", "{:.3g}".format),
    ("GPU-hours", "gpu_hours", "{:.3g}".format),
)
"""Title, name in the file and words of what is said of a size."""


def predict(words: list[str]) -> int:
    """``hpcsgd predict RUN ... --gpus N,N``; gives the exit code."""
    asked = _parser().parse_args(words)
    found, problems = find_runs(asked.run)
    if problems:
        raise UsageError(f"predict: {problems[0]}")
    prediction = _predict(asked, found)
    file = asked.output or Path(kept.FILE_NAME)
    kept.write(file, prediction, overwrite=asked.overwrite)
    if asked.json:
        print(json.dumps(prediction, indent=1, allow_nan=False))
    else:
        print("\n".join(text(prediction)))
        print(f"\nkept in {file}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpcsgd predict",
        description="Predict times at sizes that were not run, from the logs of small runs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", type=paths.argument, nargs="+", help="small runs, or directories of them")
    parser.add_argument("--gpus", metavar="N,N,...", required=True, type=_numbers, help="sizes: ranks, one a GPU")
    batch = parser.add_mutually_exclusive_group()
    batch.add_argument("--batch", metavar="N", type=_number, help="samples of a step of a GPU; default: the runs'")
    batch.add_argument("--global_batch", metavar="N", type=_number, help="of all GPUs, at every size")
    parser.add_argument("--algorithm", metavar="A,A,...", help=f"default: {','.join(DEFAULT_METHODS)}")
    parser.add_argument("--network", metavar="FILE", type=paths.argument, help="links (.toml), or what doctor printed")
    parser.add_argument("--per_node", metavar="N", type=_number, help="GPUs of a node; default: as in the runs")
    parser.add_argument("--target", metavar="METRIC=VALUE", help="time to it; default: time of the recipe's epochs")
    parser.add_argument("--epochs", metavar="N", type=_positive, help="of the run, in the place of the recipe's")
    parser.add_argument("--samples", metavar="N", type=_number, help="of an epoch, in the place of the runs'")
    parser.add_argument("--steps", metavar="N", type=_number, default=256, help="of the run whose mean this is; 256")
    parser.add_argument("--limit_hours", metavar="X", type=_positive, help="what is fastest and cheapest within them?")
    parser.add_argument("--limit_gpu_hours", metavar="X", type=_positive, help="likewise")
    parser.add_argument(
        "--local_start", metavar="X", type=float, default=0.5, help="part of post-local SGD before; 0.5"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the draws")
    parser.add_argument("-o", dest="output", metavar="FILE", type=paths.argument, help=f"default: {kept.FILE_NAME}")
    parser.add_argument("--overwrite", action="store_true", help="replace an older prediction")
    parser.add_argument("--json", action="store_true", help="print the file's content instead of a table")
    return parser


def _predict(asked: argparse.Namespace, found: Sequence[Run]) -> dict[str, Any]:
    """The content of the file."""
    from hpcsgd.scaling.fit import fit
    from hpcsgd.scaling.goal import epochs_of, parse_target
    from hpcsgd.scaling.logs import small_run
    from hpcsgd.scaling.network import read_network
    from hpcsgd.scaling.predict import Limits, Question
    from hpcsgd.scaling.predict import predict as answer
    from hpcsgd.scaling.unknown import gaps

    known, table = read_network(asked.network) if asked.network else (None, [])
    runs = [small_run(run) for run in found]
    model = fit(runs, known, table)
    target = parse_target(asked.target) if asked.target is not None else None
    epochs, assumed = (asked.epochs, "") if asked.epochs else epochs_of(found, target)
    methods = (asked.algorithm or ",".join(DEFAULT_METHODS)).split(",")
    question = Question(
        tuple(asked.gpus),
        asked.per_node or max(run.per_node for run in runs),
        tuple(parse_method(word) for word in methods),
        tuple(_batch(asked, gpus, model.batches) for gpus in asked.gpus),
        asked.samples or _num_samples(found),
        epochs,
        asked.steps,
        min(max(asked.local_start, 0.0), 1.0),
    )
    notes = [assumed] if assumed else []
    if any(method.name == "post_local_sgd" for method in question.methods):
        notes.append(f"post-local SGD averages gradients in the first {question.synchronous:.0%} of its epochs")
    notes += [f"{run.path.parent.name}: {run.provenance['emulated']}" for run in runs if run.provenance.get("emulated")]
    open_questions = gaps(model, runs, question, network_known=known is not None or bool(table))
    limits = Limits(asked.limit_hours, asked.limit_gpu_hours)
    answers = answer(model, question, seed=asked.seed)
    return kept.content(model, runs, answers, open_questions, notes, limits, asked.seed)


def _batch(asked: argparse.Namespace, gpus: int, batches: Sequence[int]) -> int:
    """Samples of a step of a GPU."""
    if asked.global_batch is None:
        return int(asked.batch or batches[-1])
    batch, rest = divmod(asked.global_batch, gpus)
    if rest or not batch:
        raise UsageError(f"--global_batch {asked.global_batch}: {gpus} GPUs cannot share it evenly")
    return int(batch)


def _num_samples(runs: Sequence[Run]) -> int | None:
    """Of an epoch; None: no log says."""
    known = [run.provenance.get("num_train_samples") for run in runs]
    return max((int(number) for number in known if number), default=None)


def text(prediction: dict[str, Any]) -> list[str]:
    """A prediction in words: a table, what is best, what is assumed, and what is not known."""
    rows = [["algorithm", "GPUs", "batch", *(title for title, _, _ in COLUMNS)]]
    for one in prediction["predictions"]:
        rows += _two_lines(one)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", f"Medians, and below them what {prediction['level']:.0%} of the draws lie between."]
    for name in ("fastest", "cheapest"):
        if prediction[name]:
            lines.append(f"{name.capitalize()}: {prediction[name]['algorithm']} on {prediction[name]['gpus']} GPUs.")
    if any(prediction["limits"].values()) and not prediction["fastest"]:
        lines.append("Nothing keeps within the limits more often than not.")
    for title, key in (("Assumed", "assumed"), ("Not known", "unknown"), ("Runs that would tell", "runs_to_add")):
        if prediction[key]:
            lines += [f"{title}:", *(f"  - {line}" for line in prediction[key])]
    return lines


def _two_lines(one: dict[str, Any]) -> list[list[str]]:
    """The medians of a row, and below each its interval."""
    names = [one["algorithm"], str(one["gpus"]), str(one["local_batch"])]
    found = [(one[name], say) for _, name, say in COLUMNS]
    medians = ["-" if spread is None else say(spread["median"]) for spread, say in found]
    intervals = ["" if spread is None else _interval(say(spread["low"]), say(spread["high"])) for spread, say in found]
    return [[*names, *medians], ["", "", "", *intervals]]


def _interval(low: str, high: str) -> str:
    """From one to the other, with the unit once where it is the same."""
    (number, _, unit), (_, _, other) = low.partition(" "), high.partition(" ")
    return f"{number if unit == other else low} to {high}"


def _number(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number from 1 on")
    return int(word)


def _numbers(word: str) -> list[int]:
    return [_number(part.strip()) for part in word.split(",")]


def _positive(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{word!r} is no number above 0")
    return value
