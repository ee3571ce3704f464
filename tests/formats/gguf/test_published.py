"""The header of a published GGUF file: what is read of it, in how many pieces, and what is refused before it costs."""

import struct
import tracemalloc

import pytest

from bot.formats.gguf.published import inside
from bot.formats.inside import HeaderError, Inside, UnknownHeaderError
from tests.checking.gguf_files import FACTORS, TEMPLATE, TOKENS, gguf, metadata, text, value


class Read:
    """Reads a file as a Hub sends it, and remembers which bytes it was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def __call__(self, begin: int, end: int) -> bytes:
        self.asked.append((begin, end))
        return self.data[begin:end]


def said(data: bytes, size: int | None = None) -> Inside:
    return inside(Read(data), len(data) if size is None else size)


def why(data: bytes, size: int | None = None) -> str:
    with pytest.raises(HeaderError) as caught:
        said(data, size)
    return str(caught.value)


def pairs(*made: bytes, count: int | None = None) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(made) if count is None else count) + b"".join(made)


def test_what_a_file_says_of_its_model() -> None:
    found = said(
        gguf(metadata(general__base_model__count=1, general__base_model__0__repo_url="https://huggingface.co/me/x"))
    )
    assert (found.name, found.license, found.bases) == ("Phi 9", "mit", ("me/x",))
    assert found.template == TEMPLATE
    assert found.tokens == TOKENS
    assert found.special_tokens == {"eos_token": "<|end|>", "unk_token": "<unk>"}
    assert (set(found.stops), set(found.named)) == ({1}, {1})
    assert (found.base, found.factors) == (10000.0, FACTORS)


def test_llama_cpp_stops_at_some_tokens_by_their_text() -> None:
    found = said(gguf(metadata(tokenizer__ggml__eos_token_id=4)))
    assert (set(found.stops), set(found.named)) == ({1, 4}, {4})


def test_what_a_file_does_not_say_is_none() -> None:
    found = said(gguf({"general.architecture": "phi3"}, {}))
    assert (found.name, found.license, found.template, found.tokens, found.base) == (None,) * 5
    assert (found.stops, found.factors, found.special_tokens, found.bases) == (frozenset(), {}, {}, ())


def test_the_weights_are_not_read() -> None:
    whole = gguf()
    read = Read(whole + bytes(50_000_000))
    inside(read, 40_000_000_000)
    assert sum(end - begin for begin, end in read.asked) < 3_000_000


@pytest.mark.parametrize("end", [3, 10, 23, 30, 100, 400])
def test_a_file_that_is_cut_short_anywhere(end: int) -> None:
    assert why(gguf()[:end])
    assert why(gguf()[:end], 1_000_000)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"PK\x03\x04" + bytes(60), "does not begin with GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "tensors"),
        (pairs(count=1 << 62), "keys"),
        (pairs(struct.pack("<Q", 1 << 40)), "bytes of a text"),
        (pairs(text("a") + struct.pack("<IQ", 8, 1 << 50)), "bytes of a text"),
        (pairs(text("a") + struct.pack("<IIQ", 9, 8, 1 << 50)), "items of lists"),
        (pairs(text("a") + struct.pack("<IIQ", 9, 4, 1_999_999)), "goes past"),
        (pairs(text("a") + struct.pack("<IIQ", 9, 9, 1)), "unknown kind, 9"),
        (pairs(text("a") + struct.pack("<I", 77)), "unknown kind, 77"),
        (pairs(text("a") + value(1), text("a") + value(2)), "twice"),
        (pairs(text("general.alignment") + value(0)), "alignment"),
        (pairs(struct.pack("<Q", 2) + b"\xff\xfe" + value(1)), "not text"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("t") + struct.pack("<I", 9), "9 dimensions"),
    ],
)
def test_what_a_stranger_could_write_is_refused_before_it_costs_anything(data: bytes, reason: str) -> None:
    tracemalloc.start()
    try:
        assert reason in why(data + bytes(8))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version 9"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (pairs(text("a") + struct.pack("<IIQ", 9, 9, 1)), "unknown kind, 9"),
        (pairs(text("a") + struct.pack("<I", 77)), "unknown kind, 77"),
        (gguf(metadata(general__type="adapter")), "of the type 'adapter'"),
        (gguf({"split.no": 1, "split.count": 2}, {}), "part 2 of a model"),
    ],
)
def test_what_may_be_right_and_is_not_read_here(data: bytes, reason: str) -> None:
    with pytest.raises(UnknownHeaderError, match=reason):
        said(data)


def test_garbage_in_place_of_a_version_is_not_another_version() -> None:
    with pytest.raises(HeaderError) as caught:
        said(b"GGUF" + b"\xff" * 60)
    assert type(caught.value) is HeaderError


def test_factors_that_lie_elsewhere_are_refused() -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("rope_factors_long.weight")
    assert "rope factors" in why(head + struct.pack("<IQIQ", 1, 2, 0, 1 << 60) + bytes(64))
    assert "rope factors" in why(head + struct.pack("<IQIQ", 1, 1 << 40, 0, 0) + bytes(64))


def test_many_short_lists_are_bounded_together() -> None:
    one = struct.pack("<IIQ", 9, 0, 600_000) + bytes(600_000)
    assert "items of lists" in why(pairs(*(text(str(n)) + one for n in range(4))))
