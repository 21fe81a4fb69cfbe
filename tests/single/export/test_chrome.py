"""The trace is one by the rules of Chrome's format, and says what the log says."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcsgd.errors import UsageError
from hpcsgd.export import chrome
from hpcsgd.export.excerpt import Excerpt, excerpt
from hpcsgd.record import load_run
from tests.single.analysis.fake_runs import FakeRun, constant
from tests.single.record.log_files import old_log

STEPS, RANKS = 4, 4


def made_up() -> FakeRun:
    """Four ranks in two blocks, which average in step 1 by blocks and in step 3 all together; rank 2 comes last."""
    averaging = np.zeros((STEPS, RANKS))
    averaging[1] = [0.3, 0.1, 0.05, 0.2]
    averaging[3] = [0.3, 0.2, 0.1, 0.4]
    spans = {
        "data_seconds": constant(0.001, STEPS, RANKS),
        "forward_seconds": constant(1 / 3, STEPS, RANKS),
        "backward_seconds": 1.0 - averaging,
        "averaging_seconds": averaging,
        "checkpoint_seconds": constant(0.01, STEPS, RANKS),
        "logging_seconds": constant(0.02, STEPS, RANKS),
        "evaluation_seconds": constant(0.5, STEPS, RANKS),
    }
    return FakeRun(spans, ["none", "block", "none", "global"], blocks=[0, 0, 1, 1], accuracies=[0.5])


def excerpt_of(run: FakeRun, directory: Path, **asked: Any) -> Excerpt:
    return excerpt(load_run(run.write(directory)), **asked)


def trace(selected: Excerpt, path: Path) -> dict[str, Any]:
    """The trace, as it was written."""
    assert chrome.write([selected], path) == [path]
    content = path.read_bytes()
    found: dict[str, Any] = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    return found


def check_rules(events: list[dict[str, Any]]) -> None:
    """The rules of the format: kinds, fields, that slices of a thread nest, and that arrows have two ends in slices."""
    slices, ends = defaultdict(list), defaultdict(dict)
    for event in events:
        assert event["ph"] in "MXCsf" and event["name"] and event["ts"] >= 0, event
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        if event["ph"] == "X":
            nanoseconds = [round(1000 * event[key]) for key in ("ts", "dur")]
            assert nanoseconds[1] >= 0
            slices[event["pid"], event["tid"]].append((nanoseconds[0], sum(nanoseconds), event))
        elif event["ph"] == "C":
            assert all(isinstance(value, float) for value in event["args"].values())
        elif event["ph"] in "sf":
            assert event["ph"] not in ends[event["id"]] and (event["ph"] == "s" or event["bp"] == "e")
            ends[event["id"]][event["ph"]] = event
    for own in slices.values():
        open_until: list[int] = []
        for begin, end, event in sorted(own, key=lambda found: (found[0], -found[1])):
            while open_until and open_until[-1] <= begin:
                open_until.pop()
            assert not open_until or end <= open_until[-1], event
            assert len(open_until) == (event["cat"] == "span"), "spans lie in iterations, and nothing else in another"
            open_until.append(end)
    for arrow in ends.values():
        assert arrow["s"]["ts"] <= arrow["f"]["ts"] and arrow["s"]["pid"] != arrow["f"]["pid"]
        for event in arrow.values():
            when = round(1000 * event["ts"])
            assert any(begin <= when < end for begin, end, _ in slices[event["pid"], event["tid"]])


def test_the_rules_of_the_format_are_kept_and_all_is_there(tmp_path: Path) -> None:
    document = trace(excerpt_of(made_up(), tmp_path / "run"), tmp_path / "x.json.gz")
    events = document["traceEvents"]
    check_rules(events)
    assert "not their beginnings" in document["otherData"]["order"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert names == {1: "run: sync_sgd", **{r + 2: f"rank {r}: n{r // 2}, cpu" for r in range(RANKS)}}
    counts = Counter((e["ph"], e.get("cat")) for e in events)
    # Seven spans where something is averaged, else six; three arrows for four ranks, one for a block of two.
    assert counts["X", "iteration"] == 16 and counts["X", "span"] == 2 * 4 * 7 + 2 * 4 * 6
    assert counts["X", "synchronisation"] == 8 and counts["s", "synchronisation"] == 3 + 2 * 1
    assert counts["C", None] == 2 * STEPS + RANKS * STEPS


def test_spans_follow_one_another_in_the_order_of_the_loop(tmp_path: Path) -> None:
    events = trace(excerpt_of(made_up(), tmp_path / "run"), tmp_path / "x.json")["traceEvents"]
    spans = [e for e in events if e.get("cat") == "span" and e["pid"] == 2][6:13]
    assert [e["name"] for e in spans] == [
        *("checkpoint", "logging", "data", "forward", "backward", "averaging", "evaluation"),
    ]
    wall = 0.001 + 1 / 3 + 1.0 + 0.01 + 0.02 + 0.5
    assert spans[0]["ts"] == pytest.approx(1e6 * wall, abs=0.01)
    assert spans[5]["dur"] == pytest.approx(0.3e6, abs=0.002)
    for one, following in zip(spans, spans[1:], strict=False):
        assert round(1000 * one["ts"]) + round(1000 * one["dur"]) == round(1000 * following["ts"])


def test_all_wait_for_the_last_of_their_own_block(tmp_path: Path) -> None:
    events = trace(excerpt_of(made_up(), tmp_path / "run"), tmp_path / "x.json")["traceEvents"]
    found = {
        (e["args"]["step"], e["pid"] - 2): (e["args"]["last"], e["name"], round(e["args"]["wait_seconds"], 6))
        for e in events
        if e["ph"] == "X" and e["cat"] == "synchronisation"
    }
    # FakeRun's ranks leave together, so that the shortest came last.
    assert {key: found[key][0] for key in found} == {
        **{(1, 0): 1, (1, 1): 1, (1, 2): 2, (1, 3): 2},
        **dict.fromkeys([(3, rank) for rank in range(RANKS)], 2),
    }
    assert found[1, 3][1:] == ("block averaging", 0.15) and found[3, 3][1:] == ("averaging", 0.3)


def test_a_window_of_some_ranks(tmp_path: Path) -> None:
    run = load_run(made_up().write(tmp_path / "run"))
    events = trace(excerpt(run, (1, 3), [0, 3]), tmp_path / "x.json")["traceEvents"]
    check_rules(events)
    assert {e["args"]["step"] for e in events if e.get("cat") == "iteration"} == {1, 2}
    assert {e["pid"] for e in events} == {1, 2, 5}
    throughput = [e["args"]["value"] for e in events if e["name"] == "samples/s"]
    assert throughput == pytest.approx([4 * 32 / (0.001 + 1 / 3 + 1.0)] * 2), "it is of all ranks"


def test_an_iteration_begins_where_the_last_ends_and_segments_follow(tmp_path: Path) -> None:
    """Of a GPU the host is ahead; and a run that was resumed began its clock anew."""
    run = load_run(replace(made_up(), resumed=[2]).write(tmp_path / "run"))
    frame = run.iterations
    frame.loc[frame["step"] >= 2, ["start_seconds", "sync_enter_seconds", "sync_exit_seconds"]] -= 3.0
    frame.loc[frame["step"] == 1, "start_seconds"] -= 0.75
    events = trace(excerpt(run), tmp_path / "x.json")["traceEvents"]
    check_rules(events)
    begins = [e["ts"] for e in events if e.get("cat") == "iteration" and e["pid"] == 2]
    assert begins == sorted(begins)
    calls = [e for e in events if e["ph"] == "X" and e["cat"] == "synchronisation"]
    last = next(call["ts"] for call in calls if call["args"]["step"] == 3)
    assert last > begins[3], "synchronisations are brought to the same clock"


def test_a_log_of_an_older_version(tmp_path: Path) -> None:
    events = trace(excerpt(load_run(old_log(2, tmp_path / "run"))), tmp_path / "x.json")["traceEvents"]
    check_rules(events)
    assert sum(e.get("cat") == "iteration" for e in events) == 2 * 18
    assert any(e["ph"] == "s" for e in events)


def test_a_log_of_statistics_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    selected = excerpt_of(replace(made_up(), labels="summary"), tmp_path / "run")
    with pytest.raises(UsageError, match="needs a log of ranks"):
        chrome.write([selected], tmp_path / "x.json")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
