"""A multipart answer taken apart, however it is cut on its way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirv.analysis.errors import Transient
from mirv.service.peers.multipart import bodies, boundary_of

BOUNDARY = b"a-b"


def answer(contents: list[bytes], end: bytes = b"\r\n--a-b--\r\n") -> bytes:
    head = b"\r\n--a-b\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(head + one for one in contents).removeprefix(b"\r\n") + end


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(1, 80))
def test_every_part_is_found_however_it_is_cut(contents: list[bytes], size: int) -> None:
    contents = [one for one in contents if BOUNDARY not in one]
    assert list(bodies(cut(answer(contents), size), BOUNDARY, 1000)) == contents


def test_what_looks_like_its_end_stays_in_the_part() -> None:
    content = b"\r\n--a-\r\n\r\n--A-b--\r\n--"
    assert list(bodies(cut(answer([content, content]), 3), BOUNDARY, 1000)) == [content] * 2


@pytest.mark.parametrize("end", [b"", b"\r\n--a-b", b"\r\n--a-b\r\nContent-"])
def test_an_answer_that_breaks_off_gives_no_half_object(end: bytes) -> None:
    got = []
    with pytest.raises(Transient, match="broke off"):
        for one in bodies([answer([b"whole", b"perhaps half"], end)], BOUNDARY, 1000):
            got.append(one)
    assert got in ([b"whole"], [b"whole", b"perhaps half"])
    assert (b"perhaps half" in got) == end.startswith(b"\r\n--a-b\r\n")


def test_a_part_without_end_is_not_held() -> None:
    endless = iter([b"--a-b\r\n\r\n", *[bytes(100)] * 1000])
    with pytest.raises(Transient, match="more than 500 bytes"):
        list(bodies(endless, BOUNDARY, 500))


def test_the_boundary_is_named() -> None:
    kind = 'multipart/related; type="application/dicom"; boundary="a-b"; charset=x'
    assert boundary_of(kind) == BOUNDARY
    with pytest.raises(Transient, match="wanted multipart/related"):
        boundary_of("text/html")
