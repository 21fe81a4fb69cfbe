"""The sentences of the verdict, on logs and tables of known content: the numbers, and what noise forbids to say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from runs import logs as run_logs
from runs.logs import Entry
from tables.learning import evaluation_table
from tables.parts import part_table
from tables.scaling import run_table
from tests.single.analysis.fake_runs import FakeRun, constant
from verdict.accuracy import accuracy_sentence
from verdict.every import verdict
from verdict.sentence import Range, figure, half_width, listed, seconds
from verdict.sizes import scaling_sentence, study_sentences
from verdict.times import bound_sentence, gain_sentence

LOCAL = {"name": "local_sgd", "sync_period": 2}
STEPS = 20


def sync_run(compute: float = 0.01, exposed: float = 0.03, ranks: int = 2, **options: object) -> FakeRun:
    """Synchronous SGD, 20 steps of ``compute`` and then ``exposed`` seconds."""
    spans = {
        "forward_seconds": constant(compute, STEPS, ranks),
        "gradient_allreduce_seconds": constant(exposed, STEPS, ranks),
    }
    return FakeRun(spans, ["gradient"] * STEPS, **{"steps_per_epoch": 5, **options})  # type: ignore[arg-type]


def local_run(compute: float = 0.01, averaging: float = 0.01, **options: object) -> FakeRun:
    """Local SGD, H = 2: 20 steps of ``compute`` seconds, every other one averaged."""
    averagings = constant(averaging, STEPS, 2)
    averagings[::2] = 0
    spans = {"forward_seconds": constant(compute, STEPS, 2), "averaging_seconds": averagings}
    settings: dict[str, object] = {"steps_per_epoch": 5, "algorithm": LOCAL, **options}
    return FakeRun(spans, ["none", "global"] * (STEPS // 2), **settings)  # type: ignore[arg-type]


def written(root: Path, **runs: FakeRun) -> list[Entry]:
    """The runs as read from their logs."""
    return run_logs.load([str(run.write(root / name)) for name, run in runs.items()])[0]


def test_the_best_accuracy_is_named_where_it_is_above_the_noise(tmp_path: Path) -> None:
    entries = written(
        tmp_path,
        fast=local_run(accuracies=[0.5, 0.97, 0.98, 0.98]),
        slow=sync_run(accuracies=[0.1, 0.3, 0.5, 0.6]),
    )
    said = accuracy_sentence(entries, evaluation_table(entries))
    assert said.text.startswith("fast reached the best test accuracy, 98.0 % (± ")
    assert "points, 100 samples); the next is slow with 60.0 %; it alone reached " in said.text
    assert "seeds differ is not known" in said.remark
    assert "more than the algorithm" not in said.remark


def test_accuracies_within_the_noise_are_the_same_and_times_to_one_are_told(tmp_path: Path) -> None:
    entries = written(
        tmp_path,
        fast=local_run(accuracies=[0.99, 0.99, 0.99, 0.99]),
        slow=sync_run(compute=0.1, accuracies=[0.3, 0.4, 0.98, 0.98]),
    )
    said = accuracy_sentence(entries, evaluation_table(entries))
    assert said.text.startswith("All runs reached the same test accuracy within the noise, 98.0 to 99.0 % (± ")
    # An epoch is 5 steps, of 15 ms and 130 ms; the log has no period's mean in it.
    assert "fast was first at 94.0 %, after 70.0 ms of training, and slow last, after 1.95 s." in said.text


def test_times_that_evaluations_do_not_tell_apart_are_not_told_apart(tmp_path: Path) -> None:
    values = [0.3, 0.5, 0.7, 0.95]
    entries = written(
        tmp_path, one=local_run(accuracies=values), two=local_run(0.011, accuracies=values, local_batch_size=16)
    )
    said = accuracy_sentence(entries, evaluation_table(entries))
    assert "are not told apart by evaluations as rare and as noisy as these." in said.text
    assert said.remark.startswith("The runs differ in more than the algorithm: local_batch_size and global_batch_size.")


def test_without_accuracies_nothing_is_said_of_them(tmp_path: Path) -> None:
    entries = written(tmp_path, one=sync_run())
    assert not accuracy_sentence(entries, evaluation_table(entries)).known
    entries = written(tmp_path / "other", one=sync_run(accuracies=[0.5], metric="iou"))
    said = accuracy_sentence(entries, evaluation_table(entries))
    assert str(said) == "Nothing can be said of accuracies: no run has the metric accuracy: their logs have loss, iou."


def test_what_bounds_an_iteration_and_how_much_is_exposed(tmp_path: Path) -> None:
    entries = written(tmp_path, local=local_run(), sync=sync_run())
    said = bound_sentence(entries, part_table(entries, 4))
    assert said.text == (
        "An iteration's time goes mostly to computing in local (67 %) and to exposed communication in sync (75 %); "
        "exposed communication is 33 % (local) to 75 % (sync), with 0 % of waiting for slower ranks in it."
    )


def test_waiting_for_slower_ranks_is_a_part_of_communication(tmp_path: Path) -> None:
    run = sync_run(0.06, 0.01)
    forward, reduced = (run.spans[name] for name in ("forward_seconds", "gradient_allreduce_seconds"))
    forward[:, 1], reduced[:, 1] = 0.02, 0.05
    entries = written(tmp_path, uneven=run)
    # The clock is 70 ms, computing 40 ms in the mean, and rank 1 waits for 40 ms.
    assert part_table(entries, 0)["wait_share"].tolist() == pytest.approx([0.02 / 0.07] * 5)
    assert "with 29 % of waiting for slower ranks in it" in bound_sentence(entries, part_table(entries, 0)).text


def test_shares_that_overlap_are_not_ordered(tmp_path: Path) -> None:
    run = sync_run(0.02, 0.02)
    run.spans["forward_seconds"][:10] = 0.03
    run.spans["forward_seconds"][10:] = 0.015
    entries = written(tmp_path, one=run)
    assert (
        "about equally to computing and exposed communication" in bound_sentence(entries, part_table(entries, 0)).text
    )


def test_the_gain_of_local_over_synchronous_sgd(tmp_path: Path) -> None:
    entries = written(tmp_path, local=local_run(), sync=sync_run())
    said = gain_sentence(entries, part_table(entries, 0))
    # 64 samples in 40 ms; 128 in 30 ms.
    assert str(said) == (
        "Against the 1,600 samples a second of sync (sync. SGD), local (local SGD, H = 2) trains 2.67 times as many "
        "(2.7 to 2.7 over parts of the runs)."
    )


def test_a_gain_within_the_noise_is_none_and_other_differences_are_named(tmp_path: Path) -> None:
    uneven = sync_run(0.01, 0.01, threads=4)
    uneven.spans["forward_seconds"][: STEPS // 2] = 0.002
    entries = written(tmp_path, local=local_run(), sync=uneven)
    said = gain_sentence(entries, part_table(entries, 0))
    assert "local (local SGD, H = 2) shows no difference above the noise (0.8" in said.text
    assert said.remark == "The runs differ in more than the algorithm: threads (1, 4)."


def test_a_gain_needs_both_algorithms(tmp_path: Path) -> None:
    # Samples a second of other batches are no gain of the algorithm.
    entries = written(tmp_path, local=local_run(), sync=sync_run(local_batch_size=64))
    said = gain_sentence(entries, part_table(entries, 0))
    assert not said.known and "there is no run of the other algorithm of the same task and size" in said.text


def test_efficiency_at_the_largest_size(tmp_path: Path) -> None:
    sizes = {f"gpus-{n}": sync_run(0.08 / n, 0.02 if n > 1 else 0, n, local_batch_size=64 // n) for n in (1, 2, 4)}
    entries = written(tmp_path, **sizes)
    said = scaling_sentence(entries, run_table(entries, 0))
    assert said.text == (
        "With the same global batch, 4 ranks train 2 times the samples a second of 1 rank, an efficiency of 50 % (50 % "
        "to 50 % over iterations), and 50 % of the time goes to exposed communication."
    )


def test_ranks_that_share_cores_say_nothing_of_scaling(tmp_path: Path) -> None:
    shared = sync_run(ranks=2, local_batch_size=32, cores={0: "0", 1: "0"})
    entries = written(tmp_path, one=sync_run(ranks=1, local_batch_size=64), two=shared)
    said = scaling_sentence(entries, run_table(entries, 0))
    assert not said.known
    assert said.text.startswith("Nothing can be said of scaling: two: its 2 ranks on n0 share 1 cores")


def study_tables(steps: list[float], spread: float, until: float, beyond: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of a study at batch sizes 8, 16, ...; intervals of steps are ``spread`` times as wide as they."""
    sizes = [8 * 2**i for i in range(len(steps))]
    results = pd.DataFrame({"workload": "study", "goal": 0.1, "batch_size": sizes, "steps_to_result": steps})
    results = results.assign(
        low_steps=results["steps_to_result"] / spread, high_steps=results["steps_to_result"] * spread
    )
    limits = {"perfect_until": until, "maximal_from": beyond}
    row = {"workload": "study", "metric": "val/classification_error", "goal": 0.1, **limits}
    ends = {f"{name}_{end}": value * f for name, value in limits.items() for end, f in (("low", 0.5), ("high", 2))}
    return results, pd.DataFrame([{**row, **ends}])


def test_up_to_which_batch_steps_fall() -> None:
    said = [sentence.text for sentence in study_sentences(*study_tables([1000, 500, 300, 290, math.nan], 1.1, 16, 32))]
    assert said == [
        "The steps of study to a classification error below 0.1 fall in proportion to the batch up to 16 (8 to 32), "
        "and hardly fall from 32 on (16 to 64).",
        "From batch 8 to 64, 8 times as large, the steps of study fall 3.45 times (2.8 to 4.2).",
        "The largest batch of study needs 2.32 times the samples of the smallest (1.9 to 2.8).",
    ]


def test_steps_that_differ_by_no_more_than_trials_do_not_fall() -> None:
    said = study_sentences(*study_tables([1000, 900], 1.5, 8, math.inf))
    assert "fall by less than the batch grows from the smallest, 8, on (4 to 16), and still fall" in said[0].text
    assert "at the largest, 16 (beyond the largest to beyond the largest)" not in said[0].text
    assert said[1].text == "From batch 8 to 16, the steps of study do not fall by more than its trials differ."
    assert len(said) == 2


def test_a_verdict_opens_with_what_is_known(tmp_path: Path) -> None:
    entries = written(tmp_path, local=local_run(), sync=sync_run())
    results, regimes = study_tables([1000, 500], 1.1, 16, math.inf)
    tables = {"learning_evaluations": evaluation_table(entries), "shallue_results": results, "shallue_regimes": regimes}
    said = verdict(entries, tables, 5)
    assert [sentence.known for sentence in said] == [True] * 5 + [False] * 2
    assert [said[0].text[:12], said[1].text[:12], said[2].text[:12]] == ["An iteration", "The steps of", "Against the "]
    alone = verdict([], {"shallue_results": results, "shallue_regimes": regimes}, 5)
    assert len(alone) == 3 and all(sentence.known for sentence in alone)


def test_numbers_as_they_are_written() -> None:
    assert [figure(x) for x in (12345.6, 0.12345, 1.5, 2.0, math.inf, math.nan)] == [
        *("12,300", "0.123", "1.50", "2", "∞", "unknown")
    ]
    assert [seconds(x) for x in (0.0123, 5.526, 600.0, 7300.0)] == ["12.3 ms", "5.53 s", "10 min", "2.03 h"]
    assert listed(["a"]) == "a" and listed(list("abcde"), 3) == "a, b and 3 more"
    ratio = Range(4, 2, 6).over(Range(2, 1, 4))
    assert (ratio.value, ratio.low, ratio.high) == (2, 0.5, 6)
    # Student's interval of two values: 12.71 times their distance over two.
    assert half_width([0.1, 0.3], 0.01) == pytest.approx(12.71 * 0.1, rel=1e-3)
    assert half_width([0.5], 0.01) == 0.01
    assert math.isnan(Range.of([math.nan]).value) and Range.of(list(np.arange(4.0))).value == 1.5
