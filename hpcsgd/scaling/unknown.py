"""What a prediction cannot know from the runs that it is made of, and which small run would tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcsgd.record.summary import counted
from hpcsgd.scaling.fit import Model
from hpcsgd.scaling.logs import Small
from hpcsgd.scaling.predict import Question

FEW_DEVICES = 8
FAR = 64
"""How many times the ranks of the largest run are far away."""


@dataclass(frozen=True)
class Gap:
    """What is not known, and the run that would tell; empty: none small would."""

    text: str
    run: str = ""


def gaps(model: Model, runs: Sequence[Small], question: Question, *, network_known: bool) -> list[Gap]:
    """All of them, the weightiest first."""
    return [
        *_of_network(model, question, network_known),
        *_of_compute(model, runs, question),
        *_of_ranks(model, question),
    ]


def _of_network(model: Model, question: Question, network_known: bool) -> list[Gap]:
    largest, smallest = max(question.gpus), min(question.batches)
    if network_known or largest == 1:
        return []
    probe = f"2 ranks, local batch {smallest}"
    if not model.levels:
        return [
            Gap(
                "No run has several ranks: all communication and all waiting is left out, so times are least ones",
                probe,
            )
        ]
    found = []
    if "between" not in model.levels and largest > question.per_node:
        text = "No run crosses nodes: links between nodes are taken for 1 to 10 times as slow as those within"
        found.append(Gap(text, f"2 nodes of {question.per_node}, local batch {smallest}; or --network"))
    elif "within" not in model.levels and question.per_node > 1:
        text = "No run has several ranks on a node: links within are taken for 1 to 10 times as fast as those between"
        found.append(Gap(text, f"1 node of {question.per_node}, local batch {smallest}; or --network"))
    if not model.parameter_bytes:
        found.append(Gap("No run says how many bytes are sent", probe))
    return found


def _of_compute(model: Model, runs: Sequence[Small], question: Question) -> list[Gap]:
    found, batches = [], model.batches
    asked = sorted(set(question.batches))
    strange = [batch for batch in asked if batch not in batches]
    if len(batches) == 1 and strange:
        text = (
            f"All runs have a local batch of {batches[0]}: what part of a step is fixed cannot be told, and batches "
            f"of {', '.join(map(str, strange))} may take anything from as long to in proportion"
        )
        found.append(Gap(text, f"1 GPU, local batch {strange[0]}"))
    elif outside := [batch for batch in strange if not batches[0] <= batch <= batches[-1]]:
        text = f"Local batches of {', '.join(map(str, outside))} are beyond those run, {batches[0]} to {batches[-1]}"
        found.append(Gap(text, f"1 GPU, local batch {outside[0]}"))
    fullest = max(run.per_node for run in runs)
    if fullest < min(question.per_node, max(question.gpus)):
        text = (
            f"No run has more than {counted(fullest, 'rank')} on a node: what {question.per_node} take from each other "
            "(memory, power, input) is not in it"
        )
        found.append(Gap(text, f"1 node of {question.per_node}, local batch {asked[0]}"))
    return found


def _of_ranks(model: Model, question: Question) -> list[Gap]:
    found, seen, largest = [], model.effects.num_devices, max(question.gpus)
    if seen < FEW_DEVICES and largest > seen:
        found.append(
            Gap(
                f"Persistent slowness is known of {counted(seen, 'device')} only: one slow one among {largest} that is "
                "of another kind than these is not foreseen",
                f"a short run on more nodes, such as {min(max(4 * seen, FEW_DEVICES), largest)} ranks",
            )
        )
    if largest > FAR * model.most_ranks:
        text = (
            f"{largest} GPUs are {largest / model.most_ranks:.0f} times the largest run: that a ring's formula and the "
            "same links go on so far (no shared switch, no other traffic) is assumed"
        )
        found.append(Gap(text, f"a short run of {min(16 * model.most_ranks, largest)} ranks"))
    return found
