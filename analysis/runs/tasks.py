"""Runs brought together as Crossbow 2019 compares them: by task, by what is trained and how, and seeds to a setting.

A *task* is a model on a data set. What tells runs of one task apart are *facts*, each in words. Runs with the same
facts differ in their seed alone: they are one *setting*. Runs with the same facts but for some that are left out (the
learners of a rank, say) are a *line* of a figure over what was left out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runs import groups
from runs.groups import LEARNED, by_seed, split, way, work
from runs.logs import ALGORITHMS, CENTRAL, Entry, ranks_text

PLAIN = "SGD"
"""One learner in all: synchronous SGD with nobody to wait for."""
MAIN = ("algorithm", "sync_period", "num_ranks", "learners_per_rank", "local_batch_size", "rate")
"""Facts that a setting's name always has; the others only where nothing else tells it from another."""
WORDS = "m: learners a rank; b: batch a learner."
RATE = ("rate",)
LEARNERS = ("learners_per_rank",)
SPLIT = ("learners_per_rank", "num_ranks", "engine", "device", "allreduce")
"""How k learners are spread out: all splits train alike."""
TRAINING = (
    *("rate", "warmup", *LEARNED),
    *("algorithm.alpha", "algorithm.central_momentum", "algorithm.restart"),
)
"""What changes the training, but not its speed."""
PERIOD = ("sync_period",)


@dataclass(frozen=True)
class Setting(groups.Setting):
    """Runs that differ in their seed alone, as the figures of a task say them.

    Attributes:
        name: its facts in words; no two settings of a task have the same.
    """

    name: str

    @property
    def algorithm(self) -> str:
        """The recipe's word."""
        return algorithm(self.entries[0])

    @property
    def method(self) -> str:
        """The algorithm in words; of a single learner, plain SGD."""
        return _method(self.entries[0], ())


def algorithm(item: Entry) -> str:
    """The algorithm, as the recipe names it."""
    return str(item.run.config.get("algorithm", {}).get("name", "unknown"))


def task(item: Entry) -> str:
    """The model and the data set, in words."""
    model, data = (item.run.config.get(section, {}).get("name", "unknown") for section in ("model", "data"))
    return f"{model} on {data}"


def num_learners(item: Entry) -> int:
    """k: learners of all ranks."""
    return item.world_size * item.learners_per_rank


def sync_period(item: Entry) -> int:
    """τ or H; 1 of synchronous SGD."""
    return int(item.run.config.get("algorithm", {}).get("sync_period") or 1)


def in_words(item: Entry, leave: Collection[str] = ()) -> dict[str, str]:
    """What tells a run apart, in words, without the facts and sections of the recipe in ``leave``."""
    config = item.run.config
    others: dict[str, Any] = {**work(item, ("learners_per_rank", "engine", "algorithm.name", "algorithm.sync_period"))}
    others |= way(item) | {"accumulation_steps": split(item)["accumulation_steps"]}
    rate = others.pop("rate")
    devices = ", ".join(dict.fromkeys(str(device) for device in item.run.ranks["device"] if device))
    found = {
        "algorithm": _method(item, leave),
        "num_ranks": ranks_text(item.world_size),
        "learners_per_rank": f"m = {item.learners_per_rank}",
        "local_batch_size": f"b = {item.local_batch_size:g}",
        "rate": rate,
        "engine": f"engine {config.get('engine', 'loop')}",
        "device": devices,
        "allreduce": f"allreduce {config.get('comm', {}).get('allreduce', '')}",
        **{key: f"{key.rpartition('.')[2]} {'unset' if value == 'None' else value}" for key, value in others.items()},
    }
    if algorithm(item) != "sync_sgd":
        found["sync_period"] = f"{'τ' if algorithm(item) in CENTRAL else 'H'} = {sync_period(item)}"
    return {
        key: text for key, text in found.items() if not any(key == name or key.startswith(f"{name}.") for name in leave)
    }


def _method(item: Entry, leave: Collection[str]) -> str:
    """The algorithm in words; a single learner is plain SGD where learners are not left out."""
    name = algorithm(item)
    if name == "sync_sgd" and num_learners(item) == 1 and not {"learners_per_rank", "num_ranks"} & set(leave):
        return PLAIN
    return ALGORITHMS.get(name, name)


def texts(own: Mapping[str, Mapping[str, str]], always: Sequence[str] = MAIN[:1]) -> dict[str, str]:
    """What tells each run (or setting) from the others, in words, by its name.

    The main facts are said of all where they differ, or ``always``; each other one of those runs that it tells from a
    run with the same main facts but for the learning rate. A run without some fact, as of an older log, is told from no
    single other by it.
    """
    said = [key for key in MAIN if key in always or len({found[key] for found in own.values() if key in found}) > 1]
    parts = {name: [found[key] for key in said if found.get(key)] for name, found in own.items()}
    kinds = {name: tuple(found.get(key, "") for key in said if key not in RATE) for name, found in own.items()}
    for key in dict.fromkeys(key for found in own.values() for key in found if key not in MAIN):
        alike: dict[tuple[str, ...], list[str]] = {}
        for name, kind in kinds.items():
            alike.setdefault(kind, []).append(name)
        for kind, names in alike.items():
            if len({own[name][key] for name in names if key in own[name]}) > 1:
                for name in names:
                    parts[name] += [own[name][key]] if own[name].get(key) else []
                    kinds[name] = (*kind, own[name].get(key, ""))
    return {name: ", ".join(part) for name, part in parts.items()}


def lines(entries: Sequence[Entry], leave: Collection[str]) -> dict[str, str]:
    """The line that each run belongs to in a figure over what is left out, by the run's name."""
    return texts({item.name: in_words(item, leave) for item in entries})


def find_tasks(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The runs of each task, that with most of them first."""
    tasks: dict[str, list[Entry]] = {}
    for item in entries:
        tasks.setdefault(task(item), []).append(item)
    return dict(sorted(tasks.items(), key=lambda found: -len(found[1])))


def setting_names(entries: Sequence[Entry]) -> dict[str, str]:
    """The setting that each run of one task is of, by the run's name."""
    return texts({item.name: in_words(item) for item in entries}, always=MAIN)


def find_settings(entries: Sequence[Entry]) -> list[Setting]:
    """The settings of one task, by algorithm, learners, period, batch and learning rate."""
    names = setting_names(entries)
    settings = [Setting(same, names[same[0].name]) for same in by_seed(entries, lambda item: names[item.name])]
    order = [*ALGORITHMS]

    def place(setting: Setting) -> tuple[Any, ...]:
        first = setting.entries[0]
        known = order.index(setting.algorithm) if setting.algorithm in order else len(order)
        size = num_learners(first), sync_period(first), first.local_batch_size
        return known, *size, setting.learning_rate, setting.name

    return sorted(settings, key=place)


def labels(settings: Sequence[Setting], others: Sequence[Setting] = ()) -> list[str]:
    """What a figure calls these settings: what tells them from one another, and from ``others`` of their task."""
    found = texts({setting.name: in_words(setting.entries[0]) for setting in (*settings, *others)})
    return [found[setting.name] for setting in settings]


def best_rates(settings: Sequence[Setting], accuracy: Mapping[str, float]) -> list[Setting]:
    """Of settings that differ in their learning rate alone, the one of highest accuracy; in the order given.

    Args:
        settings: of one task.
        accuracy: final accuracy of a setting by its name; NaN where it is not known.
    """
    kinds = texts({setting.name: in_words(setting.entries[0], RATE) for setting in settings})
    score = {name: -math.inf if math.isnan(value) else value for name, value in accuracy.items()}
    best: dict[str, Setting] = {}
    for setting in settings:
        kind = kinds[setting.name]
        if kind not in best or score[setting.name] > score[best[kind].name]:
            best[kind] = setting
    return [setting for setting in settings if setting in best.values()]
