"""Memory to receive into: what is put in stays, however it grows and whoever looks."""

import numpy as np
import pytest

from mirv.service.inbound.wire.receive_buffer import Budget, BudgetError, Buffer


def test_what_is_put_in_comes_out_through_any_growth() -> None:
    buffer, wanted = Buffer(Budget(1 << 30)), b"head"
    source = np.random.default_rng(5)
    buffer.start(b"head")
    for length in (0, 1, 4091, 1 << 20, 3, 5 << 20):
        part = source.bytes(length)
        buffer.add(part)
        wanted += part
    with buffer.content() as content, buffer.content(4) as rest:
        assert bytes(content) == wanted
        assert bytes(rest) == wanted[4:]


def test_what_arrives_is_as_much_as_was_said() -> None:
    buffer = Buffer(Budget(1 << 30))
    buffer.start(b"")

    def three(free: memoryview) -> int:
        free[:3] = b"abc"
        return 3

    assert buffer.receive(10, three) == 3
    assert buffer.size == 3
    with buffer.content() as content:
        assert bytes(content) == b"abc"


def test_it_grows_while_someone_looks_at_what_was_there() -> None:
    buffer = Buffer(Budget(1 << 30))
    buffer.start(b"first")
    held = buffer.content()
    buffer.add(bytes(2 << 20))
    assert bytes(held) == b"first"
    with buffer.content() as content:
        assert bytes(content) == b"first" + bytes(2 << 20)


def test_the_next_object_has_nothing_of_the_last() -> None:
    buffer = Buffer(Budget(1 << 30))
    for wanted in (b"long" * 1000, b"short", b"x" * (9 << 20), b"end"):
        buffer.start(wanted)
        with buffer.content() as content:
            assert bytes(content) == wanted
        buffer.discard()


def test_large_memory_is_given_back() -> None:
    buffer = Buffer(Budget(1 << 30))
    buffer.start(bytes(9 << 20))
    assert buffer.held > 8 << 20
    buffer.discard()
    assert buffer.held == 0
    buffer.start(bytes(9))
    buffer.discard()
    assert 0 < buffer.held <= 4 << 20


def test_large_ones_share_what_there_is_and_small_ones_need_none_of_it() -> None:
    budget = Budget(8 << 20)
    first, second = Buffer(budget), Buffer(budget)
    first.start(bytes(9 << 20))
    second.start(b"")
    second.add(bytes(3 << 20))
    with pytest.raises(BudgetError, match="wanted"):
        second.add(bytes(9 << 20))
    with second.content() as content:
        assert len(content) == 3 << 20
    first.discard()
    second.add(bytes(6 << 20))
    second.close()
    first.start(bytes(9 << 20))
