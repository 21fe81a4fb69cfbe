"""How trials are grouped: as the recipe says, or as is fastest, with groups as even as can be."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcsgd.trials import settle
from hpcsgd.trials.settle import Way, choose, even_size
from hpcsgd.trials.workshop import Workshop

Shop = Callable[..., Workshop]


@pytest.mark.parametrize(
    ("trials", "fuse", "size"), [(28, 16, 14), (32, 16, 16), (5, 16, 5), (17, 8, 6), (7, 1, 1), (9, 4, 3)]
)
def test_groups_are_even(trials: int, fuse: int, size: int) -> None:
    assert even_size(trials, fuse) == size


def test_the_recipe_decides(shop: Shop) -> None:
    assert choose(shop(fuse=3), 4) == ("dense", 3)
    assert choose(shop(fuse=1), 4) == ("dense", 1)
    plans = settle.settle(shop(fuse=4))
    assert [(p.batch_size, p.budget, p.engine, p.fuse) for p in plans] == [(4, 40, "dense", 3), (16, 20, "dense", 3)]


@pytest.mark.parametrize(
    ("seconds", "engine"), [({"loop": 3.0, "fused": 2.9}, "fused"), ({"loop": 1.0, "fused": 1.1}, "loop")]
)
def test_groups_of_convolutional_networks_are_fused_where_that_pays(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], engine: str
) -> None:
    def measured(ways: list[Way]) -> None:
        assert [(way.engine, way.number) for way in ways] == [("loop", 1), ("fused", 2)]
        for way in ways:
            way.seconds = seconds[way.engine]

    monkeypatch.setattr(settle, "LONGEST_STEP", math.inf)
    monkeypatch.setattr(settle, "measure_in_turn", measured)
    assert choose(shop(fuse=2, model__name="simple_cnn_narrow"), 4) == (engine, 2)


def test_what_has_no_fused_form_trains_one_after_another(shop: Shop, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(b"the quick brown fox " * 100)
    parts = shop(fuse="auto", model__name="lstm", model__embedding=4, model__hidden=4, data__name="text",
                 data__dir=text, data__sequence_length=8)  # fmt: skip
    assert choose(parts, 4) == ("loop", 1)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({("loop", 1): 4.0, ("dense", 1): 5.0, ("dense", 4): 2.0, ("dense", 8): 1.0}, ("dense", 8)),
        ({("loop", 1): 4.0, ("dense", 1): 3.0, ("dense", 4): 2.9, ("dense", 8): 2.8}, ("dense", 1)),
        ({("loop", 1): 1.0, ("dense", 1): 3.0, ("dense", 4): 2.0, ("dense", 8): 0.95}, ("loop", 1)),
        ({("loop", 1): 4.0, ("dense", 1): 3.0, ("dense", 4): 2.0, ("dense", 8): 2.1}, ("dense", 4)),
    ],
)
def test_the_fastest_way_is_taken_where_it_pays(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, seconds: dict[tuple[str, int], float], chosen: tuple[str, int]
) -> None:
    def measured(ways: list[Way]) -> None:
        assert {(way.engine, way.number) for way in ways} == set(seconds)
        for way in ways:
            way.seconds = seconds[way.engine, way.number]

    monkeypatch.setattr(settle, "FUSES", (1, 4, 8))
    monkeypatch.setattr(settle, "LONGEST_STEP", math.inf)
    monkeypatch.setattr(settle, "measure_in_turn", measured)
    assert choose(shop(fuse="auto", trials=9), 4) == chosen


def test_large_steps_are_not_tried(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, int]] = []
    monkeypatch.setattr(settle, "MOST_SAMPLES", 64)
    monkeypatch.setattr(settle, "LONGEST_STEP", math.inf)
    monkeypatch.setattr(settle, "measure_in_turn", lambda ways: tried.extend((way.engine, way.number) for way in ways))
    choose(shop(fuse="auto", trials=20), 16)
    assert tried == [("loop", 1), ("dense", 1), ("dense", 2), ("dense", 4)]


def test_no_larger_group_is_tried_than_one_whose_steps_are_long(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, int]] = []
    monkeypatch.setattr(settle, "LONGEST_STEP", 0.0)
    monkeypatch.setattr(settle, "measure_in_turn", lambda ways: tried.extend((way.engine, way.number) for way in ways))
    assert choose(shop(fuse="auto", trials=20), 16) == ("loop", 1)
    assert tried == [("loop", 1)]
