"""What became of a cell, in one word and with the evidence; and the tables of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.soak.cells import METHODS, Cell, Method
from tests.soak.observe import Ending, matched

BAD = ("SILENT", "HUNG", "LOST", "NOT HIT", "NOT RUN")
"""Outcomes that fail the soak."""

MEANINGS = {
    "recovered": "detected by the message, and resumed to the same bits",
    "ended cleanly": "detected; goes on to the same model once the damaged log is moved away, as the message says",
    "refused": "the second job was refused; the first ended with the same bits",
    "harmless": "the run came to its end with the same bits",
    "not detectable": "the run came to its end with other bits, and nothing could have told",
    "SILENT": "other bits, or an end without the message",
    "HUNG": "not ended beyond the deadline, or processes left behind",
    "LOST": "detected, but not resumed to the same bits",
    "NOT HIT": "the fault did not happen",
    "NOT RUN": "the cell could not be run",
}


@dataclass(frozen=True)
class Outcome:
    """A cell, what became of it, what was said, the seconds to the end, and the step that it was resumed from."""

    cell: Cell
    verdict: str
    said: str = ""
    seconds: float | None = None
    resumed_from: int | None = None
    evidence: str = ""


def judge_process(cell: Cell, ending: Ending | None, resumed: dict[str, Any] | None) -> Outcome:
    """A run that a process of its own made, and its resume."""
    if ending is None:
        return Outcome(cell, "NOT RUN", evidence="no tmpfs can be mounted here")
    said, difference = ending.said(cell), (resumed or {}).get("difference", "not resumed")
    source = (resumed or {}).get("from")
    tail = " | ".join(ending.output.strip().splitlines()[-3:])[-300:]
    if ending.code is None or ending.left_behind:
        verdict = "HUNG"
    elif ending.seconds is None:
        verdict = "NOT HIT"
    elif cell.fault.kind == "two jobs":
        verdict = "refused" if said and not difference and ending.code == 0 else "SILENT"
    elif ending.code == 0:
        verdict = "SILENT" if difference else "harmless"
    elif not said:
        verdict = "SILENT"
    else:
        verdict = "LOST" if difference or (resumed or {}).get("damaged") else "recovered"
    return Outcome(cell, verdict, said, ending.seconds, source, f"{difference} {tail}" if verdict in BAD else "")


def judge_joint(cell: Cell, result: dict[str, Any] | None) -> Outcome:
    """A run with a fault that all ranks end on together, or with a damaged file."""
    if result is None:
        return Outcome(cell, "LOST", evidence="its process set ended")
    difference, text = result.get("difference", ""), result.get("error", "") + result.get("told", "") + result["said"]
    said = matched(cell.message, text)
    if not result["hit"]:
        verdict = "NOT HIT"
    elif result.get("completed"):
        verdict = ("not detectable" if cell.undetectable else "SILENT") if difference else "harmless"
    elif not said:
        verdict = "SILENT"
    elif difference or result.get("again"):
        verdict = "LOST"
    else:
        verdict = "ended cleanly" if "again" in result else "recovered"
    source = None if result.get("completed") else result.get("from")
    return Outcome(cell, verdict, said, None, source, f"{difference} {text[-300:]}" if verdict in BAD else "")


def resume_table(stops: Sequence[dict[str, Any]], kills: Iterable[Outcome], methods: Sequence[Method]) -> str:
    """Table A: a row for each algorithm, allreduce and number of ranks."""
    lines = [
        "| algorithm | allreduce | ranks | clean stop before step | kill -9 in step | equal with == |",
        "|---|---|---|---|---|---|",
    ]
    kills = list(kills)
    for method in methods:
        own = [result for result in stops if result["method"] == method.name]
        killed = [outcome for outcome in kills if outcome.cell.method == method]
        good = sum(not result.get("difference", "?") for result in own)
        good += sum(outcome.verdict == "recovered" for outcome in killed)
        where = ", ".join(str(result["stop"]) for result in own)
        steps = ", ".join(str(outcome.cell.fault.step) for outcome in killed)
        allreduce = method.allreduce if method.algorithm != "local_sgd" else "(none)"
        lines.append(
            f"| {method.algorithm} | {allreduce} | {method.ranks} | {where} | {steps} "
            f"| {good} of {len(own) + len(killed)} |"
        )
    return "\n".join(lines)


def fault_table(outcomes: Sequence[Outcome]) -> str:
    """Table B: a row for each fault, method and phase, its ranks together."""
    lines = [
        "| fault | algorithm | phase | ranks | outcome | said | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        cell, fault = outcome.cell, outcome.cell.fault
        kind = f"{fault.kind}, bit {fault.detail}" if fault.kind == "flipped bit" else fault.kind
        phase = fault.phase
        if fault.kind in ("full disk", "two jobs", "truncated log", "truncated checkpoint"):
            phase = f"{fault.phase}: {'rank file' if fault.detail.startswith('rank') else fault.detail}"
        name = cell.method.algorithm
        if cell.method.algorithm == "sync_sgd":
            name += f", {cell.method.allreduce}"
        groups.setdefault((kind, name, phase), []).append(outcome)
    for (kind, name, phase), group in groups.items():
        counts = Counter(outcome.verdict for outcome in group)
        verdicts = ", ".join(f"{verdict} {count}" for verdict, count in counts.items())
        ranks = ", ".join(str(outcome.cell.fault.rank) for outcome in group)
        seconds = [outcome.seconds for outcome in group if outcome.seconds is not None]
        took = f"{min(seconds):.1f} to {max(seconds):.1f}" if seconds else ""
        said = next((outcome.said for outcome in group if outcome.said), "").replace("|", "\\|")
        lines.append(f"| {kind} | {name} | {phase} | {ranks} | {verdicts} | {said} | {took} |")
    return "\n".join(lines)


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many cells of each fault had which outcome, and what the outcomes mean."""
    kinds = list(dict.fromkeys(outcome.cell.fault.kind for outcome in outcomes))
    seen = [
        verdict for verdict in MEANINGS if verdict in ("SILENT", "HUNG") or any(o.verdict == verdict for o in outcomes)
    ]
    lines = ["| fault | cells | " + " | ".join(seen) + " |", "|---" * (len(seen) + 2) + "|"]
    for kind in kinds:
        counts = Counter(outcome.verdict for outcome in outcomes if outcome.cell.fault.kind == kind)
        lines.append(
            f"| {kind} | {sum(counts.values())} | " + " | ".join(str(counts[verdict]) for verdict in seen) + " |"
        )
    total = Counter(outcome.verdict for outcome in outcomes)
    lines.append(f"| all | {len(outcomes)} | " + " | ".join(str(total[verdict]) for verdict in seen) + " |")
    lines += ["", *(f"- {verdict}: {MEANINGS[verdict]}." for verdict in seen)]
    reasons = {outcome.cell.undetectable for outcome in outcomes if outcome.verdict == "not detectable"}
    return "\n".join([*lines, *(f"- Why not detectable: {reason}." for reason in sorted(reasons))])


def all_methods(outcomes: Iterable[Outcome], stops: Iterable[dict[str, Any]]) -> list[Method]:
    """The methods that occur, in the order of the table."""
    names = {outcome.cell.method.name for outcome in outcomes} | {result["method"] for result in stops}
    return [method for method in METHODS if method.name in names]
