"""What the figures of Lin 2020 are drawn from: runs of a workload with their tables, and the lines over sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from chapters.figure import Figure, numbered
from draw.lines import Axis
from draw.script import Output
from draw.sweeps import target_text
from hpcsgd.record.summary import counted
from runs.groups import repeats
from runs.identity import FULL
from runs.logs import Entry
from runs.scenarios import LOCAL, POST_LOCAL, SYNCHRONOUS, reference_batch
from runs.tasks import Setting, best_rates, find_settings, setting_names
from tables import communication, scenarios, targets
from tables.errors import LAST_EPOCHS, percent_text

ACCURACY_NOTE = (
    f"The accuracy of a run is the median over its last {LAST_EPOCHS} epochs, of the consensus model; a run that "
    "diverged has none."
)
MOMENTS_NOTE = "Mean and standard deviation (n - 1) over the runs of a setting, which differ in their seed alone."
ROUNDS_NOTE = (
    "A round is a synchronisation, of gradients or of models; bytes are those of all rounds on each rank, as the log "
    "has them."
)
BEST_NOTE = (
    "Of settings that differ in their learning rate alone, the one of highest final accuracy is shown, chosen on the "
    "split that is shown."
)
SPREAD_NOTE = "Points: median over runs; whiskers: lowest and highest."
WORDS_NOTE = "k: learners of all ranks; n: batch a learner; kn: global batch; H: local steps between averagings."
ONE_NOTE = "H = 1 is synchronous SGD at the same kn."
SPEEDUP_NOTE = (
    "Speed-up of the time to the target, over H = 1 on the fewest ranks; where that is missing, over the line's own "
    "fewest. Batches a rank are the same, so that kn grows with the ranks."
)
ACCURACY = Axis("final_accuracy", "Final accuracy (%)", is_log=False)
SIZES = ("num_learners", "local_batch_size")


@dataclass(frozen=True)
class Sweep:
    """What a figure of lines is over.

    Attributes:
        over: the column that lines are over.
        by: the columns that tell lines apart.
        panels: axes x and y of each panel.
        notes: how it is made, for its caption.
        take: the runs that it is of, from those of the settings shown.
    """

    over: str
    by: Sequence[str]
    panels: Sequence[tuple[Axis, Axis]]
    notes: Sequence[str]
    take: Callable[[pd.DataFrame], pd.DataFrame]


def of(*algorithms: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The runs of some algorithms."""
    return lambda runs: runs[runs["algorithm"].isin(algorithms)]


def with_lines(runs: pd.DataFrame) -> pd.DataFrame:
    """Mini-batch SGD, a line of all its batches, and local SGD by learners and batch, a line of all its H."""
    own = of(SYNCHRONOUS, LOCAL)(runs)
    sizes = [f"local SGD, k = {row.num_learners}, n = {row.local_batch_size:g}" for row in own.itertuples()]
    return own.assign(method=pd.Series(sizes, own.index).where(own["algorithm"] == LOCAL, "mini-batch SGD"))


SWEEPS = {
    "lin_period": Sweep(
        "sync_period",
        ("method", *SIZES, "wire", "variant"),
        [(Axis("sync_period", "H (local steps)"), ACCURACY)],
        (ONE_NOTE,),
        communication.with_period_one,
    ),
    "lin_workers": Sweep(
        "num_learners",
        ("method", "sync_period", "local_batch_size", "wire", "variant"),
        [(Axis("num_learners", "Learners of all ranks, k"), ACCURACY)],
        (ONE_NOTE,),
        communication.with_period_one,
    ),
    "lin_minibatch": Sweep(
        "samples_per_round",
        ("method", "wire", "variant"),
        [
            (Axis("samples_per_round", "Samples between two rounds"), ACCURACY),
            (Axis("sync_bytes", "Bytes of a rank"), ACCURACY),
        ],
        ("A mini-batch of H kn samples is held against H local steps: as many samples between two rounds.",),
        with_lines,
    ),
    "lin_switch": Sweep(
        "local_from_epoch",
        ("method", "sync_period", *SIZES, "wire", "variant"),
        [(Axis("local_from_epoch", "First epoch with local steps", is_log=False), ACCURACY)],
        ("At 0: local SGD with the same H. At the end: synchronous SGD at the same kn.",),
        lambda runs: with_ends(runs),
    ),
    "lin_time": Sweep(
        "num_ranks",
        ("sync_period", "rank_batch_size", "wire", "variant"),
        [
            (Axis("num_ranks", "Ranks, K"), Axis("seconds_to_target", "Time to target accuracy", is_log=False)),
            (Axis("num_ranks", "Ranks, K"), Axis("speedup", "Speed-up to target accuracy", is_log=False)),
        ],
        (SPEEDUP_NOTE,),
        of(SYNCHRONOUS, LOCAL),
    ),
    "lin_communication": Sweep(
        "setting",
        ("setting",),
        [(Axis("num_rounds", "Rounds"), ACCURACY), (Axis("sync_bytes", "Bytes of a rank"), ACCURACY)],
        (ROUNDS_NOTE, "Right: settings that sent nothing, as those of one rank, are not on the logarithmic axis."),
        lambda runs: runs,
    ),
}
"""The figures of lines, by name."""


def with_ends(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of post-local SGD, with both ends of their lines: local SGD, and synchronous SGD."""
    post = runs[runs["algorithm"] == POST_LOCAL]
    keys = ["sync_period", *SIZES, "wire"]
    lines = post[[*keys, "global_batch_size", "method", "variant"]].drop_duplicates()
    local = runs[runs["algorithm"] == LOCAL].drop(columns=["method", "variant", "global_batch_size"])
    whole = runs[runs["algorithm"] == SYNCHRONOUS].drop(columns=["method", "variant", *keys])
    ends = [
        local.merge(lines, on=keys).assign(local_from_epoch=0.0),
        whole.merge(lines, on="global_batch_size").assign(local_from_epoch=whole["num_epochs"].max()),
    ]
    return pd.concat([post, *ends], ignore_index=True)


class Study:
    """The runs of one workload, and everything that their figures are drawn from."""

    def __init__(self, name: str, place: int, entries: Sequence[Entry], target: float | None, skip: int) -> None:
        """``place``: among the workloads; ``target``: unset, what three quarters of the settings shown reach."""
        self.name = name
        self.place = place
        self.skip = skip
        self.entries = list(entries)
        self.reference = reference_batch(entries)
        self.settings = find_settings(entries)
        names = setting_names(entries)
        self.repeats = repeats(entries, lambda item: names[item.name])
        runs = targets.run_table(self.settings, skip)
        final = runs.groupby("setting")["final_accuracy"].median().to_dict()
        self.shown = best_rates(self.settings, final)
        self.target = targets.default_target(runs, self.shown) if target is None else target
        runs = runs.merge(scenarios.run_facts(self.entries, self.reference), on="run")
        self.all_runs = targets.with_target(runs, entries, self.target)
        shown = {setting.name for setting in self.shown}
        self.runs = self.all_runs[self.all_runs["setting"].isin(shown)].reset_index(drop=True)
        self.scenarios = scenarios.scenario_table(self.runs, self.reference)
        self.curves = communication.curve_table(self.shown)
        self.schedules = communication.schedule_table(self.shown)
        self.pairs = communication.pair_table(self.runs)
        self.grid = communication.grid_table(self.runs)
        self.sweeps = {name: self._rows(name, sweep) for name, sweep in SWEEPS.items()}
        self.accuracy_label = targets.accuracy_label(runs)

    def _rows(self, name: str, sweep: Sweep) -> pd.DataFrame:
        """The rows of a figure of lines."""
        own = sweep.take(self.runs)
        if name == "lin_time":
            own = own[own["epochs_to_target"].notna()]
        if name == "lin_communication":
            return communication.points(own)
        table = communication.sweep(own, sweep.over, sweep.by)
        if table.empty:
            return table
        return communication.speedups(table) if name == "lin_time" else table

    def file(self, figure: Figure[Study]) -> str:
        """The name of the workload's own files of a figure."""
        return numbered(figure.name, self.place)

    def called(self, figure: Figure[Study]) -> str:
        """What remarks call a figure of the workload."""
        return f"{self.file(figure)} ({self.name})"

    def caption(self, output: Output, *notes: str, target: bool = False) -> str:
        """What stands below a figure."""
        best = BEST_NOTE if len(self.shown) < len(self.settings) else ""
        said = target_text(self.target) if target else ""
        return " ".join(filter(None, (f"{self.name}.", said, WORDS_NOTE, *notes, best, output.caption)))

    def of_scenarios(self) -> tuple[list[Setting], list[str]]:
        """One setting a scenario, and its name: A3 to A5 at the H that most of them have, of equals the largest."""
        table = self.scenarios
        if table.empty:
            return [], []
        later = table[table["scenario"].isin(("A3", "A4", "A5"))]
        counts = later.groupby("sync_period")["scenario"].nunique()
        best = max(counts.index, key=lambda period: (counts[period], period), default=1.0)
        settings, names = [], []
        for _, own in table.groupby("scenario", sort=True):
            # Nearest to that H; of equals the one that sends all bits, then that of most runs.
            far = (own["sync_period"] - best).abs()
            order = own.assign(far=far, coded=own["wire"] != FULL, few=-own["num_runs"])
            row = order.sort_values(["far", "coded", "few"]).iloc[0]
            settings += [setting for setting in self.shown if setting.name == row["setting"]]
            names.append(f"{scenarios.scenario_label(row.to_dict() | {'apart': ''})}: {row['method']}")
        return settings, names

    def evaluated(self, settings: Sequence[Setting]) -> list[Setting]:
        """Those of some settings that have a curve: an evaluation of a run that did not diverge."""
        known = self.curves[(self.curves["split"] == "held_out") & ~self.curves["diverged"]]
        names = set(known["setting"])
        return [setting for setting in settings if setting.name in names]

    def setting_of(self, names: Sequence[str]) -> list[Setting]:
        """The settings of these names, in their order."""
        return [setting for setting in self.shown if setting.name in set(names)]

    def findings(self) -> list[str]:
        """What the runs say of the paper's claims, a line each: local steps against mini-batches, and A5 against A2."""
        lines = []
        for row in self.pairs.itertuples():
            own = ", ".join(
                filter(None, (f"H = {row.sync_period:g}", row.wire if row.wire != FULL else "", row.variant))
            )
            lines.append(
                f"{self.name}: with {row.samples_per_round} samples between two rounds, local SGD ({own}) has "
                f"{percent_text(row.local_test_percent, row.local_test_std_percent)}, mini-batch SGD "
                f"{percent_text(row.minibatch_test_percent, row.minibatch_test_std_percent)}: "
                f"{row.difference_points:+.2f} points ({counted(row.local_num_runs, 'run')} and "
                f"{row.minibatch_num_runs})."
            )
        table = self.scenarios
        large = table[table["scenario"] == "A2"] if len(table) else table
        if len(large) and large["test_percent"].notna().any():
            base = large.loc[large["test_percent"].idxmax()]
            for row in table[table["scenario"].isin(("A1", "A5"))].to_dict("records"):
                gain = row["test_percent"] - base["test_percent"]
                lines.append(f"{self.name}: {scenarios.scenario_label(row)} is {gain:+.2f} points from A2.")
        return lines
