"""Nodes, local ranks and blocks from the nodes' names."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.topology import arrange, discover
from hpcsgd.errors import UsageError
from tests.single.comm.counting import CountingCommunicator


def columns(nodes: list[str], block_size: int | None = None) -> dict[str, list[int]]:
    places = arrange(nodes, block_size)
    names = ("node_index", "local_rank", "local_size", "block")
    return {name: [getattr(place, name) for place in places] for name in names}


def test_ranks_node_by_node() -> None:
    assert columns(["a", "a", "b", "b"]) == {
        "node_index": [0, 0, 1, 1],
        "local_rank": [0, 1, 0, 1],
        "local_size": [2, 2, 2, 2],
        "block": [0, 0, 1, 1],
    }


def test_ranks_in_turn_on_uneven_nodes() -> None:
    assert columns(["b", "a", "b", "c", "b"]) == {
        "node_index": [0, 1, 0, 2, 0],
        "local_rank": [0, 0, 1, 0, 2],
        "local_size": [3, 1, 3, 1, 3],
        "block": [0, 1, 0, 2, 0],
    }


@pytest.mark.parametrize(
    ("block_size", "blocks"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 0, 1, 1, 2, 2]), (3, [0, 0, 0, 1, 1, 1]), (6, [0] * 6)]
)
def test_blocks_of_a_given_size_do_not_look_at_nodes(block_size: int, blocks: list[int]) -> None:
    nodes = ["a", "b", "a", "b", "a", "b"]
    assert columns(nodes, block_size)["block"] == blocks
    assert {place.num_blocks for place in arrange(nodes, block_size)} == {6 // block_size}
    assert columns(nodes, block_size)["local_rank"] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("block_size", [4, 5, 7, 12])
def test_a_block_size_that_does_not_divide_is_refused(block_size: int) -> None:
    with pytest.raises(UsageError, match=rf"block_size is {block_size}, which does not divide 6 .* \[1, 2, 3, 6\]"):
        arrange(["a"] * 6, block_size)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_places_are_consistent(nodes: list[str]) -> None:
    places = arrange(nodes)
    assert [place.rank for place in places] == list(range(len(nodes)))
    for place in places:
        neighbours = [other for other in places if other.node == place.node]
        assert [other.local_rank for other in neighbours] == list(range(place.local_size))
        assert {other.block for other in neighbours} == {place.block}
        assert (place.world_size, place.num_nodes, place.num_blocks) == (len(nodes), *[len(set(nodes))] * 2)


def test_the_node_is_slurms_name_or_else_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    assert discover(SingleCommunicator())[0].node == "n7"
    monkeypatch.delenv("SLURMD_NODENAME")
    assert discover(SingleCommunicator())[0].node == socket.gethostname()


def test_slurms_local_id_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    monkeypatch.setenv("SLURM_LOCALID", "0")
    places = discover(CountingCommunicator(others=["n0", "n1", "n1"]))
    assert [place.local_rank for place in places] == [0, 0, 1, 2]
