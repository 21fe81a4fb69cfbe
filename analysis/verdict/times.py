"""What bounds an iteration, and how fast local SGD is against synchronous SGD: parts of runs in, sentences out.

A run is cut in five parts, one after the other. The range of a number is that over the parts of all runs of a setting;
of two numbers one is larger only where their ranges lie apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from runs.logs import Entry
from tables.parts import SHARES
from verdict.sentence import Range, Sentence, figure, listed, percent
from verdict.settings import MOST_SAID, Setting, differences, find_settings

BOUNDS = {"compute_share": "computing", "exposed_share": "exposed communication", "data_share": "waiting for data"}
SYNCHRONOUS = "sync_sgd"
MOST_NAMED = 4
Shares = dict[str, Range]
"""The shares of ``SHARES`` of a setting."""
NOTHING_LEFT = "Nothing can be said of the time of an iteration: no run has a whole synchronisation period left."


def bound_sentence(entries: Sequence[Entry], parts: pd.DataFrame) -> Sentence:
    """What takes most of an iteration's time, and how much of it is exposed communication and waiting.

    Args:
        entries: the runs.
        parts: of ``part_table``.
    """
    settings = [setting for setting in find_settings(entries) if not _of(setting, parts).empty]
    if not settings:
        return Sentence(NOTHING_LEFT, known=False)
    shares = {
        setting.name: {name: Range.of(_of(setting, parts)[name].tolist()) for name in SHARES} for setting in settings
    }
    text = f"An iteration's time goes mostly {_bounds(shares)}"
    if max(setting.entries[0].world_size for setting in settings) == 1:
        return Sentence(f"{text}; one rank has nobody to communicate with.", _emulated(entries))
    return Sentence(f"{text}; {_communication(shares)}.", _emulated(entries))


def _of(setting: Setting, parts: pd.DataFrame) -> pd.DataFrame:
    """The parts of a setting's runs."""
    return parts[parts["run"].isin(setting.runs)] if len(parts) else parts


def _bounds(shares: Mapping[str, Shares]) -> str:
    """To what most of the time of each setting goes; to two things where their shares are not told apart."""
    found: dict[str, list[str]] = {}
    for name, own in shares.items():
        first, second, _ = sorted(BOUNDS, key=lambda bound: -own[bound].value)
        clear = own[first].is_above(own[second])
        both = " and ".join(sorted((BOUNDS[first], BOUNDS[second])))
        found.setdefault(f"to {BOUNDS[first]}" if clear else f"about equally to {both}", []).append(name)
    everyone = len(found) == 1 and len(shares) > 1
    said = []
    for words, names in found.items():
        # Of two that take as much neither is the larger share.
        share = f" ({_first(shares, names)})" if words.startswith("to ") else ""
        said.append(f"{words} in {'all runs' if everyone else _who(names, shares)}{share}")
    return listed(said)


def _who(names: Sequence[str], shares: Mapping[str, Shares]) -> str:
    """Some of the settings: by name, where there are few."""
    return listed(names) if len(shares) <= MOST_NAMED else f"{len(names)} of {len(shares)} settings"


def _first(shares: Mapping[str, Shares], names: Sequence[str]) -> str:
    """The largest share of some settings."""
    return _span([max((shares[name][bound] for bound in BOUNDS), key=lambda own: own.value) for name in names])


def _span(shares: Sequence[Range]) -> str:
    """From the smallest to the largest share."""
    low, high = (percent(pick(own.value for own in shares)) for pick in (min, max))
    return low if low == high else f"{low} to {high}"


def _communication(shares: Mapping[str, Shares]) -> str:
    """Exposed communication of the settings, and the wait in it."""
    least, most = (pick(shares, key=lambda name: shares[name]["exposed_share"].value) for pick in (min, max))
    low, high = shares[least]["exposed_share"], shares[most]["exposed_share"]
    if high.is_above(low):
        text = f"exposed communication is {percent(low.value)} ({least}) to {percent(high.value)} ({most})"
    else:
        text = f"exposed communication is {_span([own['exposed_share'] for own in shares.values()])}"
    waits = [own["wait_share"] for own in shares.values() if own["wait_share"].value >= 0]
    if not waits:
        return f"{text}, and the logs do not tell how much of it is waiting for slower ranks"
    return f"{text}, with {_span(waits)} of waiting for slower ranks in it"


def _emulated(entries: Sequence[Entry]) -> str:
    """That a machine was emulated."""
    return "Times are those of an emulated machine." if any(item.run.emulated for item in entries) else ""


def gain_sentence(entries: Sequence[Entry], parts: pd.DataFrame) -> Sentence:
    """How many times as many samples a second algorithms with local steps train as synchronous SGD.

    Args:
        entries: the runs.
        parts: of ``part_table``.
    """
    settings = [setting for setting in find_settings(entries) if not _of(setting, parts).empty]
    found = [pair for setting in settings if (pair := _reference(setting, settings))]
    if not found:
        why = "there is no run of the other algorithm of the same task and size"
        text = f"Nothing can be said of local against synchronous SGD: {why}."
        return Sentence(text, known=False)
    fewest = min(len(pair[2]) for pair in found)
    pairs = [pair for pair in found if len(pair[2]) == fewest]
    rates = {s.name: Range.of(_of(s, parts)["samples_per_second"].tolist()) for pair in pairs for s in pair[:2]}
    pairs.sort(key=lambda pair: -rates[pair[0].name].over(rates[pair[1].name]).value)
    reference = pairs[0][1]
    said = listed([_gain(pair[0], rates[pair[0].name], rates[pair[1].name]) for pair in pairs], MOST_SAID)
    by = f", {reference.allreduce}" if reference.allreduce else ""
    rate = figure(rates[reference.name].value)
    text = f"Against the {rate} samples a second of {reference.name} ({reference.method}{by}), {said}."
    apart = list(dict.fromkeys(line for pair in pairs for line in pair[2]))
    remark = f"The runs differ in more than the algorithm: {listed(apart, MOST_SAID)}." if apart else ""
    return Sentence(text, " ".join(filter(None, (remark, _emulated(entries)))))


def _reference(setting: Setting, settings: Sequence[Setting]) -> tuple[Setting, Setting, list[str]] | None:
    """A setting with local steps, the one of synchronous SGD and its size most like it, and where else they differ."""
    if setting.algorithm == SYNCHRONOUS:
        return None
    same = [
        (setting, other, differences(setting.conducted, other.conducted))
        for other in settings
        if other.algorithm == SYNCHRONOUS and other.size == setting.size
    ]
    return min(same, key=lambda pair: len(pair[2]), default=None)


def _gain(local: Setting, rate: Range, reference: Range) -> str:
    """What an algorithm gains in throughput, as far as parts of the runs tell."""
    gain = rate.over(reference)
    span = f"{figure(gain.low, 2)} to {figure(gain.high, 2)} over parts of the runs"
    if rate.is_above(reference) or reference.is_above(rate):
        return f"{local.name} ({local.method}) trains {figure(gain.value)} times as many ({span})"
    return f"{local.name} ({local.method}) shows no difference above the noise ({span})"
