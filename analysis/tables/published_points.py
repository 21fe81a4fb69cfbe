"""Published times of a step at many sizes: small sizes of a system fitted, its larger ones predicted and compared.

The protocol:

* A row counts if it says GPUs, nodes, global batch and a time: from throughput, else from steps, else from epochs. A
  row that was handed in again in a later round counts once, in its first. Of MLPerf v2.0, the row of 4,216 GPUs has a
  throughput that is wrong by about six and is left out.
* A system is the rows of one benchmark, round, submitter and kind of server (:func:`server`). Fitted are its rows of at
  most 64 GPUs; where it has none or no others, those of its smallest size. All others are tested.
* The numbers of the prior are learned from the other rounds alone, of all submitters, by likelihood, and so is what
  systems of one kind (:func:`kind`) have in common; no row of the round that is tested is among them, also where it was
  handed in again. The form of the curve was chosen with the tested rows in sight (ring of all GPUs, not of nodes;
  teachers whose local batches differ four times), so that the errors of :func:`goal` are a little too good.
* :func:`goal` are NVIDIA's rows of ResNet-50 at 512 GPUs and more, each from the rows of its own round at 8 and 64; the
  row of 3,584 GPUs stands in the results of v3.1 and v4.0 and is predicted from both, as in a line's errors of 2.7 % on
  average and 5.1 % at worst.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

import published
from hpcsgd.scaling.curve import Points, Prior, posterior
from hpcsgd.scaling.learned import learn
from hpcsgd.scaling.points import predict_points

MOST_FITTED = 64
LARGE = 512
WRONG = ("dgxa100_n527_ngc22.04_mxnet",)
TIMES = ("ms_thr", "ms_step", "ms_epoch")
FACTS = ["bench", "gpus", "gbs", "seconds", "minutes"]
"""What is equal in rows that were handed in again."""
DEVICES = re.compile(r"([AH][12]00|[VP]100|A30|A40|L40S|L40|L4|GC200|Bow|A5000|RTX 5000|4090|7900)", re.I)

COUNTS = (
    *((r"^\d+x?(?=[A-Z])", ""), (r"_n\d+|_\d+N|-n\d+(?=-)", ""), (r"pod\d+", "pod")),
    *((r"x\d+x?(?=[AHLV]\d)", "x"), (r"A100x\d+", "A100")),
)
"""In the names of systems: how many nodes, how many GPUs."""


def rows() -> pd.DataFrame:
    """The rows that count, each once: ``round``, ``org``, ``system``, ``bench``, ``device``, ``gpus``, ``gbs``,
    ``local_batch``, ``seconds``, ``minutes``, and ``row``, the number of the row that it repeats, or its own.
    """
    table = published.read("mlperf_points")
    table["seconds"] = 1e-3 * table[list(TIMES)].bfill(axis=1).iloc[:, 0]
    table = table[table[["gpus", "nodes", "gbs", "seconds"]].notna().all(axis=1) & ~table["system"].isin(WRONG)]
    table = table.assign(
        round=table["repo"].str.replace("_results", "").str.replace("training_", ""),
        device=table["accel"].map(device),
        server=table["system"].map(server),
        local_batch=table["gbs"] / table["gpus"],
        row=table.groupby(FACTS, dropna=False)["seconds"].transform(lambda same: same.index[0]),
    )
    kept = [
        "round",
        "org",
        "system",
        "bench",
        "device",
        "server",
        "nodes",
        "gpus",
        "gbs",
        "local_batch",
        "seconds",
        "minutes",
        "row",
    ]
    return table[kept]


def device(text: str) -> str:
    """The kind of an accelerator, of NVIDIA's whether it is a card, and its memory."""
    found = DEVICES.search(str(text))
    kind = found.group(1).upper() if found else str(text)
    card = " PCIe" if "PCI" in str(text).upper() and kind != "P100" else ""
    memory = re.search(r"(\d+) ?GB", str(text))
    return f"{kind}{card} {memory.group(1)} GB" if memory else kind + card


def server(system: str) -> str:
    """The name of a system without how many there are of what."""
    for pattern, instead in COUNTS:
        system = re.sub(pattern, instead, system)
    return system


def systems(table: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str, str], pd.DataFrame]]:
    """The rows of each benchmark, round, submitter and device."""
    yield from table.groupby(["bench", "round", "org", "server"], sort=False)


def is_fitted(system: pd.DataFrame) -> pd.Series:
    """Which rows of a system are fitted."""
    small = system["gpus"] <= MOST_FITTED
    return small if small.any() and not small.all() else system["gpus"] == system["gpus"].min()


def points(part: pd.DataFrame) -> Points:
    """Rows as points."""
    return Points(*(part[name].to_numpy(float) for name in ("gpus", "nodes", "local_batch", "seconds")))


def kind(system: pd.DataFrame) -> tuple[str, str]:
    """What systems have in common that are alike: submitter and device."""
    return system["org"].iloc[0], system["device"].iloc[0]


def kinds(table: pd.DataFrame) -> dict[str, dict[Hashable, list[Points]]]:
    """The systems of each benchmark and kind."""
    found: dict[str, dict[Hashable, list[Points]]] = {}
    for (bench, *_), part in systems(table):
        found.setdefault(bench, {}).setdefault(kind(part), []).append(points(part))
    return found


def tested(table: pd.DataFrame) -> pd.DataFrame:
    """All rows that are predicted, each once, with ``test``: its system's number."""
    once = table[table["row"] == table.index]
    parts = []
    for number, (_, part) in enumerate(systems(once)):
        if part["gpus"].nunique() > 1:
            parts.append(part.assign(test=number, fitted=is_fitted(part)))
    return pd.concat(parts)


def goal(table: pd.DataFrame) -> pd.DataFrame:
    """NVIDIA's rounds of ResNet-50 with rows at 8, at 64 and at more GPUs, as :func:`tested` has systems."""
    own = table[
        (table["bench"] == "resnet")
        & table["device"].str.contains("100")
        & (table["org"] == "NVIDIA")
        & ~table["round"].isin(["v2.1"])
    ]
    parts = []
    for number, (_, part) in enumerate(own.groupby("round", sort=False)):
        part = part[(part["gpus"] >= LARGE) | part["gpus"].isin([8, MOST_FITTED])]
        if {8, MOST_FITTED} <= set(part["gpus"]) and part["gpus"].max() >= LARGE:
            parts.append(part.assign(test=number, fitted=part["gpus"] < LARGE))
    return pd.concat(parts)


Taught = Mapping[str, tuple[Mapping[str, Prior], pd.DataFrame]]
"""By round: what the others teach of each benchmark, and their rows."""


def others(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of all rounds but one, each once: none that the round has too."""
    own = table.loc[table["round"] == name, "row"]
    rest = table[(table["round"] != name) & ~table["row"].isin(own)]
    return rest[~rest["row"].duplicated()]


def teach(table: pd.DataFrame, rounds: Iterable[str]) -> Taught:
    """What the other rounds teach, for each of some; takes some seconds each."""
    return {name: (learn(kinds(others(table, name))), others(table, name)) for name in rounds}


def predictions(test: pd.DataFrame, taught: Taught, level: float = 0.9) -> pd.DataFrame:
    """The rows of ``test`` that are not fitted, with ``predicted``, ``low`` and ``high`` seconds."""
    parts = []
    for (name, _), system in test.groupby(["round", "test"], sort=False):
        bench = system["bench"].iloc[0]
        prior, rest = taught[name]
        curve = posterior(points(system[system["fitted"]]), prior[bench], kinds(rest)[bench].get(kind(system), []))
        wanted = system[~system["fitted"]]
        told = [curve.predict(row.gpus, row.nodes, row.local_batch, level) for row in wanted.itertuples()]
        parts.append(wanted.assign(**dict(zip(("predicted", "low", "high"), np.array(told).T, strict=True))))
    return pd.concat(parts, ignore_index=True)


def beside_others(found: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Predictions of :func:`goal` beside a line's and Extra-P's: ``round``, ``gpus``, ``local_batch``, measured
    milliseconds, and of each the error in per cent; of the curve its interval too.
    """
    extrap = published.read("extrap_predictions").pivot(index=["round", "gpus"], columns="rows", values="seconds")
    made = []
    for row in found.itertuples():
        fitted = test[(test["round"] == row.round) & test["fitted"]]
        slope, first = np.polyfit(fitted["local_batch"], fitted["seconds"], 1)
        own = extrap.loc[(row.round, row.gpus)]
        values = {"curve": row.predicted, "low": row.low, "high": row.high, "line": first + slope * row.local_batch}
        values |= {"Extra-P": own["small"], "Extra-P, other rounds too": own["kin"]}
        errors = {f"{name} (%)": 100 * (value / row.seconds - 1) for name, value in values.items()}
        made.append({"round": row.round, "gpus": int(row.gpus), "local_batch": row.local_batch} | errors)
        made[-1]["measured (ms)"] = 1e3 * row.seconds
    return pd.DataFrame(made)


def summary(errors: pd.DataFrame) -> str:
    """Mean and largest error of each way, in words."""
    ways = [name for name in errors if name.endswith("(%)") and name not in ("low (%)", "high (%)")]
    told = (f"{name[:-4]} {errors[name].abs().mean():.1f} % and {errors[name].abs().max():.1f} %" for name in ways)
    return f"Errors, on average and at worst: {'; '.join(told)}."


def coverage(found: pd.DataFrame) -> str:
    """How many intervals hold the measured time, in words."""
    inside = found["seconds"].between(found["low"], found["high"])
    each = ", ".join(f"{name} {part.sum()} of {len(part)}" for name, part in inside.groupby(found["bench"]))
    return f"The 90 % intervals hold {inside.sum()} of {len(inside)} rows ({inside.mean():.0%}): {each}."


def goyal() -> pd.DataFrame:
    """Goyal's 8 to 352 GPUs at 32 images each: each larger size from 8 GPUs and the other, and both from 8 alone."""
    table = published.read("goyal_timing").rename(
        columns={"num_gpus": "gpus", "global_batch_size": "global_batch", "seconds_per_iteration": "seconds"}
    )
    made = []
    for fitted, wanted in (((8, 256), 352), ((8, 352), 256), ((8,), 256), ((8,), 352)):
        row = table[table["gpus"] == wanted]
        told = predict_points(table[table["gpus"].isin(fitted)], row[["gpus", "global_batch"]]).iloc[0]
        measured = float(row["seconds"].iloc[0])
        made.append(
            {
                "fitted": " and ".join(map(str, fitted)),
                "gpus": wanted,
                "measured_seconds": measured,
                **{name: told[name] for name in ("seconds", "low_seconds", "high_seconds")},
                "error (%)": 100 * (told["seconds"] / measured - 1),
            }
        )
    return pd.DataFrame(made)
