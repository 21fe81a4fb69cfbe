"""The gradient noise scale of made-up logs, against averages worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from chapters import learning
from hpcsgd.record.reader import load_run
from runs.logs import Entry, entry
from tables.noise import noise_table
from tests.single.analysis.fake_runs import FakeRun, constant


def item_of(tmp_path: Path, name: str, noise: tuple[float, float]) -> Entry:
    """4 steps, two epochs; the third estimate is missing."""
    spans, provenance = {"forward_seconds": constant(1, 4, 2)}, {"global_batch_size": 64, "steps_per_epoch": 2}
    run = FakeRun(spans, ["gradient"] * 4, steps_per_epoch=2, noise=noise, provenance=provenance)
    item = entry(load_run(run.write(tmp_path / name)), name)
    frame = item.run.per_step
    frame.loc[frame["step"] == 2, ["gradient_square", "gradient_variance"]] = math.nan
    return item


def test_both_parts_are_averaged_apart(tmp_path: Path) -> None:
    item = item_of(tmp_path, "run", (2.0, 100.0))
    frame = item.run.per_step
    frame.loc[frame["step"] == 0, "gradient_square"] = -1.0
    frame.loc[frame["step"] == 1, "gradient_variance"] = 400.0
    table = noise_table([item])
    # The half-life is one step: an estimate counts half as much as the next that there is.
    square = [-1.0, (2 - 1 / 2) / 1.5, (2 + 2 / 2 - 1 / 4) / 1.75]
    variance = [100.0, (400 + 100 / 2) / 1.5, (100 + 400 / 2 + 100 / 4) / 1.75]
    assert table["step"].tolist() == [0, 1, 3] and table["epoch"].tolist() == [0, 0.5, 1.5]
    assert table["gradient_square"].tolist() == pytest.approx(square)
    assert table["gradient_variance"].tolist() == pytest.approx(variance)
    assert math.isnan(table["noise_scale"][0])
    assert table["noise_scale"][1:].tolist() == pytest.approx([variance[1] / square[1], variance[2] / square[2]])
    assert (table["global_batch_size"] == 64).all()


def test_it_is_drawn_only_where_logs_have_it(tmp_path: Path) -> None:
    has, has_not = item_of(tmp_path, "has", (2.0, 100.0)), item_of(tmp_path, "not", (math.nan, math.nan))
    assert noise_table([replace(has_not)]).empty
    for entries, written in (([has, has_not], True), ([has_not], False)):
        directory = tmp_path / f"out{len(entries)}"
        directory.mkdir()
        files, remarks = learning.draw(entries, [], directory)
        names = {file.name for file in files}
        assert ("learning_noise.png" in names and "learning_noise.csv" in names) == written
        assert not any("learning_noise" in remark for remark in remarks)
