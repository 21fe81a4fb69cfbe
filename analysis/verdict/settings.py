"""The settings that sentences compare: runs that differ in their seed alone, and what tells two of them apart."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property

from runs import groups
from runs.groups import by_seed, frozen, same_setting, split, way, work
from runs.identity import dotted
from runs.logs import Entry, algorithm_text
from runs.tasks import algorithm, task

MOST_SAID = 3


class Setting(groups.Setting):
    """Runs that differ in their seed alone, with what tells them apart from others."""

    @property
    def name(self) -> str:
        """The first run's, and how many seeds there are."""
        more = f" ({len(self.entries)} seeds)" if len(self.entries) > 1 else ""
        return f"{self.entries[0].name}{more}"

    @property
    def runs(self) -> list[str]:
        """The runs' names."""
        return [item.name for item in self.entries]

    @property
    def algorithm(self) -> str:
        """The recipe's word."""
        return algorithm(self.entries[0])

    @property
    def method(self) -> str:
        """The algorithm and its periods, in words."""
        return algorithm_text(self.entries[0].run.config)

    @property
    def allreduce(self) -> str:
        """What has averaged gradients; empty where the log does not say."""
        return str(self.entries[0].run.provenance.get("gradient_allreduce") or "")

    @property
    def size(self) -> tuple[str, int, float, int]:
        """What samples a second are not compared across: model and data set, ranks, batch of a learner, learners."""
        first = self.entries[0]
        return task(first), first.world_size, first.local_batch_size, first.learners_per_rank

    @cached_property
    def trained(self) -> dict[str, str]:
        """What is trained and how it is shared out, but for the algorithm."""
        first = self.entries[0]
        facts = {**work(first, ("algorithm",)), **way(first), **split(first)}
        facts["global_batch_size"] = str(first.global_batch_size)
        return facts

    @cached_property
    def conducted(self) -> dict[str, str]:
        """What may change how fast it is, but for the algorithm."""
        return {**self.trained, **_conduct(self.entries[0])}


def _conduct(item: Entry) -> dict[str, str]:
    """How ranks communicate and what they run on."""
    facts = {key: str(value) for key, value in dotted(item.run.config) if key.startswith("comm.")}
    if "gradient" not in set(item.run.per_step["action"]):
        # It has averaged replicas alone.
        facts.pop("comm.allreduce", None)
    facts["device"] = ", ".join(sorted({str(device) for device in item.run.ranks["device"]}))
    facts["threads"] = ", ".join(sorted({str(count) for count in item.run.ranks["threads"]}))
    facts["emulated"] = item.run.emulated
    return facts


def find_settings(entries: Sequence[Entry]) -> list[Setting]:
    """All settings, in the order of the entries."""

    def key(item: Entry) -> Hashable:
        return same_setting(item), frozen(_conduct(item))

    return [Setting(same) for same in by_seed(entries, key)]


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The facts that two settings do not share, each with both values; what only one of them has is no difference."""
    return [f"{key} ({one[key]}, {other[key]})" for key in one if key in other and one[key] != other[key]]


def differing_keys(facts: Sequence[dict[str, str]]) -> list[str]:
    """The facts that are not the same in all of these that have them."""
    keys = dict.fromkeys(key for own in facts for key in own)
    return [key for key in keys if len({own[key] for own in facts if key in own}) > 1]
