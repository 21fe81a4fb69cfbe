"""Clocks and memory: what is a race, and what is none."""

from __future__ import annotations

import threading

import torch

from tests.pretend_gpu.memory import Memory, Span, spans_of
from tests.pretend_gpu.order import Actor, Order, stream_actor

ONE, OTHER = stream_actor(0, 1), stream_actor(0, 2)
HERE = Actor(-1, 0, threading.current_thread().name)
WHOLE = [(0, 64)]


def touch(memory: Memory, order: Order, actor: Actor, spans: list[Span] = WHOLE, *, write: bool = True) -> list[str]:
    """An access as the next thing that ``actor`` does."""
    clock = order.tick(actor) if actor.is_host else order.enqueue(actor)
    return memory.touch(spans, actor, clock, "access", write=write, era=order.era)


def test_two_streams_that_nothing_orders_race() -> None:
    order, memory = Order(), Memory("here")
    assert touch(memory, order, ONE) == []
    (race,) = touch(memory, order, OTHER, write=False)
    assert "stream 2" in race and "stream 1" in race and "memory of here" in race


def test_an_event_orders_them() -> None:
    order, memory = Order(), Memory("here")
    touch(memory, order, ONE)
    order.clock(OTHER).join(order.clock(ONE))
    assert touch(memory, order, OTHER) == []
    assert len(touch(memory, order, ONE)) == 1, "the first stream does not wait for the second"


def test_reads_and_places_apart_are_no_race() -> None:
    order, memory = Order(), Memory("here")
    touch(memory, order, ONE, [(0, 8)], write=False)
    assert touch(memory, order, OTHER, [(0, 8)], write=False) == []
    assert touch(memory, order, OTHER, [(8, 16)]) == []
    assert len(touch(memory, order, ONE, [(12, 20)])) == 1


def test_the_host_must_wait_for_a_stream_but_not_the_stream_for_it() -> None:
    order, memory = Order(), Memory("here")
    touch(memory, order, HERE)
    assert touch(memory, order, ONE) == [], "what is queued comes after what the host did before"
    assert len(touch(memory, order, HERE)) == 1
    order.host_waits(order.clock(ONE))
    assert touch(memory, order, HERE) == []


def test_what_a_write_settles_is_still_seen_through_it() -> None:
    order, memory = Order(), Memory("here")
    touch(memory, order, ONE, [(0, 8)])
    touch(memory, order, ONE)
    assert len(touch(memory, order, OTHER, [(0, 8)])) == 1


def test_an_era_forgets_the_one_before() -> None:
    order, memory = Order(), Memory("here")
    touch(memory, order, ONE)
    order.begin_era()
    assert touch(memory, order, OTHER) == []


def test_spans_are_the_pieces_of_a_tensor() -> None:
    whole = torch.zeros(4, 8)
    assert spans_of(whole) == [(0, 128)]
    assert spans_of(whole[1]) == [(32, 64)]
    assert spans_of(whole[:, 2:4]) == [(8, 16), (40, 48), (72, 80), (104, 112)]
    assert spans_of(whole.t()) == [(0, 128)]
    assert spans_of(whole[:1, :1].expand(3, 3)) == [(0, 4)]
    assert spans_of(whole[0, ::2]) == [(0, 4), (8, 12), (16, 20), (24, 28)]
    assert spans_of(whole[:0]) == []
