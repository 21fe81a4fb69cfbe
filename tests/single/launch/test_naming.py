"""Names of a sweep's runs: one for each value, whatever else is swept."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsgd.config import RunConfig
from hpcsgd.launch.naming import LONGEST_NAME, point_name, short_key, value_name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (0.1, "0.1"), (1e-1, "0.1"), (1.0, "1"), (1, "1"), (1e30, "1e+30"), (5e-324, "5e-324"), (None, "null"),
        (True, "true"), ((4, 4), "4-4"), ((8,), "8"), ("local_sgd", "local_sgd"), ("epoch:2", "epoch-2-"),
        ("/data/a b", "data-a-b-"), ("0.1", "0.1-"), ("null", "null-"), ("", "job-"), ("a" * 300, "a" * 40 + "-"),
        (tuple(range(100)), "0-1-2-"), ("a_b-c", "a_b-c-"), ((), "job-"),
    ],
)  # fmt: skip
def test_values_in_names(value: Any, name: str) -> None:
    found = value_name(value)
    assert found.startswith(name) if name.endswith("-") else found == name
    assert re.fullmatch(r"[\w.+-]+", found, flags=re.ASCII) and len(found) <= 60


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=50)
    | st.lists(st.integers(0, 99) | st.text(max_size=3), max_size=4).map(tuple)
)  # fmt: skip


@given(VALUES, VALUES)
def test_two_values_never_have_one_name(one: Any, other: Any) -> None:
    # A key is of one kind: a list of one number stands beside no number, and true beside no 1.
    if isinstance(one, tuple) == isinstance(other, tuple) and isinstance(one, bool) == isinstance(other, bool):
        assert (value_name(one) == value_name(other)) == (one == other)


def test_as_much_of_a_key_as_tells_it_from_all_others() -> None:
    assert short_key("learning_rate.base") == "base"
    assert short_key("seed") == "seed"
    assert short_key("model.name") == "model.name"
    assert short_key("data.name") == "data.name"


def test_long_names_are_cut_and_stay_apart() -> None:
    keys = ["run_dir", "data.dir", "device", "model.name", "algorithm.name", "dtype", "engine"] * 3
    one = RunConfig(local_batch_size=1, run_dir="a" * 39)
    other = replace(one, engine="fused")
    names = {point_name(config, keys) for config in (one, other)}
    assert len(names) == 2 and all(len(name) <= LONGEST_NAME + 11 for name in names)
