"""Published numbers as rows beside ours: the paper's own, unchanged, and what follows from them."""

from __future__ import annotations

import pytest

from tables import published as goyal_published


def test_the_errors_of_the_paper_come_back_unchanged() -> None:
    table = (
        goyal_published.errors()
        .set_index(["scaling_rule", "warmup", "global_batch_size"])["error_percent"]
        .sort_index()
    )
    assert table[("linear", "gradual")].to_dict() == {
        128: 23.49,
        256: 23.60,
        512: 23.48,
        1024: 23.53,
        2048: 23.49,
        4096: 23.56,
        8192: 23.74,
        16384: 24.79,
        32768: 27.55,
        65536: 33.96,
    }
    others = {
        ("linear", "none"): 24.84,
        ("linear", "constant"): 25.88,
        ("none", "gradual"): 41.67,
        ("sqrt", "gradual"): 26.22,
    }
    assert {kind: table[(*kind, 8192)] for kind in others} == others
    assert len(table) == 10 + len(others)


def test_the_warm_ups_in_words() -> None:
    note = goyal_published.warmup_note().replace("\N{NO-BREAK SPACE}", " ")
    assert "kn = 8192, validation error): no warm-up 24.84 ± 0.37 %; constant warm-up 25.88 ± 0.56 %;" in note
    assert note.endswith("small minibatch kn = 256 23.60 ± 0.12 %.")


def test_the_ideal_of_weak_scaling_is_the_first_size() -> None:
    table = goyal_published.times().set_index("num_ranks")
    assert table.loc[8, "iteration_seconds"] == table.loc[352, "ideal_iteration_seconds"] == 0.232
    assert table.loc[352, "ideal_epoch_seconds"] == pytest.approx(1161 * 8 / 352)
    assert table.loc[256, "samples_per_second"] == pytest.approx(8192 / 0.256)
    assert table.loc[256, "ideal_samples_per_second"] == pytest.approx(32 * 256 / 0.232)


def test_throughput_of_devices_with_several_sizes() -> None:
    table = goyal_published.throughput().set_index(["series", "num_ranks"])
    series = "published: H100 SXM5, PyTorch fp16"
    assert table.loc[(series, 8), "samples_per_second"] == 22059
    assert table.loc[(series, 8), "ideal_samples_per_second"] == 8 * 2790
    assert not any("PCIe" in name for name, _ in table.index), "one size only"
