import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import DamagedWeightsError, UnsafeFileNameError
from bot.source.listing import INDEX
from bot.source.safetensors_files import check_weights, parameters, parse_header, read_header
from tests.source.models import TENSORS, files, framed, header, safetensors, sharded, write

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    write(tmp_path, files())
    tensors = read_header(tmp_path / "model.safetensors")
    assert {n: (t.dtype, list(t.shape)) for n, t in tensors.items()} == TENSORS


def test_parameters_are_counted_as_stored(tmp_path: Path) -> None:
    assert parameters(write(tmp_path / "single", files())) == 8 * 4 + 4
    assert parameters(write(tmp_path / "sharded", sharded())) == 8 * 4 + 4


def test_half_byte_types_and_empty_tensors_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors({"a": ("F4", [3, 2]), "b": ("U8", [0, 7]), "c": ("BF16", [])}))
    assert [t.end - t.begin for t in read_header(path).values()] == [3, 0, 2]


@pytest.mark.parametrize("cut", [0, 7, 8, 20, -1])
def test_a_truncated_file_is_named_with_its_size(tmp_path: Path, cut: int) -> None:
    path = tmp_path / FIRST
    path.write_bytes(safetensors(TENSORS)[:cut])
    with pytest.raises(DamagedWeightsError, match=rf"^{FIRST} is truncated") as caught:
        read_header(path)
    assert caught.value.exit_code == 22


def test_a_truncated_file_is_named_with_actual_and_expected_bytes(tmp_path: Path) -> None:
    path = tmp_path / FIRST
    path.write_bytes(safetensors(TENSORS)[:-10])
    with pytest.raises(DamagedWeightsError, match="it has 70 bytes of data, its header says 80"):
        read_header(path)


def test_bytes_after_the_last_tensor_are_refused(tmp_path: Path) -> None:
    (tmp_path / FIRST).write_bytes(safetensors(TENSORS) + b"PK")
    with pytest.raises(DamagedWeightsError, match="has 2 bytes after its last tensor"):
        read_header(tmp_path / FIRST)


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / FIRST
    with path.open("wb") as file:
        file.write((1 << 40).to_bytes(8, "little"))
        file.truncate(1 << 41)  # sparse: two terabytes that take no disk
    with pytest.raises(DamagedWeightsError, match="has a header of 1099511627776 bytes"):
        read_header(path)


def test_a_git_lfs_pointer_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / FIRST
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DamagedWeightsError, match="Git LFS pointer") as caught:
        read_header(path)
    assert "git lfs pull" in caught.value.hint


GOOD: dict[str, Any] = {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\xff{}", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"a": 1, "a": 2}', "a key is given twice"),
        (b'{"a": null}', "no dtype, shape and data_offsets for 'a'"),
        (json.dumps({"a": GOOD | {"dtype": "F128"}}).encode(), "unknown dtype for 'a': 'F128'"),
        (json.dumps({"a": GOOD | {"dtype": ["BF16"]}}).encode(), "unknown dtype"),
        (json.dumps({"a": GOOD | {"shape": [-2, -2]}}).encode(), "malformed shape"),
        (json.dumps({"a": GOOD | {"shape": [2.0, 2]}}).encode(), "malformed shape"),
        (json.dumps({"a": GOOD | {"shape": [True, 4]}}).encode(), "malformed shape"),
        (json.dumps({"a": GOOD | {"shape": [1] * 1000}}).encode(), "malformed shape"),
        (json.dumps({"a": GOOD | {"shape": [10**400]}}).encode(), "malformed shape"),
        (json.dumps({"a": GOOD | {"data_offsets": [8, 0]}}).encode(), "malformed offsets"),
        (json.dumps({"a": GOOD | {"data_offsets": [0, 8, 8]}}).encode(), "malformed offsets"),
        (json.dumps({"a": GOOD | {"data_offsets": [0, 9]}}).encode(), "has 9 bytes for 'a'"),
        (json.dumps({"a\x1b[2J": GOOD | {"dtype": ""}}).encode(), r"for 'a\\x1b\[2J'"),
    ],
)
def test_a_malformed_header_is_refused(head: bytes, message: str) -> None:
    with pytest.raises(DamagedWeightsError, match=message):
        parse_header(head, name=FIRST)


@pytest.mark.parametrize("offsets", [[4, 12], [8, 16], [0, 8]])
def test_tensors_neither_overlap_nor_leave_gaps(tmp_path: Path, offsets: list[int]) -> None:
    entries = {"a": GOOD, "b": GOOD | {"data_offsets": offsets}}
    path = tmp_path / FIRST
    path.write_bytes(framed(json.dumps(entries).encode(), b"\0" * 16))
    if offsets == [8, 16]:
        assert set(read_header(path)) == {"a", "b"}
    else:
        with pytest.raises(DamagedWeightsError, match="a gap or an overlap before"):
            read_header(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["BF16", "F32", "F4", "U8"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["BF16", "F4", "U8"]) | json_values,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | json_values,
    },
)


def read(path: Path, content: bytes) -> None:
    """A file is either refused as damaged, or every one of its bytes belongs to exactly one tensor."""
    path.write_bytes(content)
    try:
        tensors = read_header(path)
    except DamagedWeightsError:
        return
    ends = sorted((t.begin, t.end) for t in tensors.values())
    assert sum(end - begin for begin, end in ends) == len(content) - 8 - int.from_bytes(content[:8], "little")


@given(content=st.binary(max_size=200))
def test_random_bytes_never_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    read(tmp_path_factory.getbasetemp() / "random.safetensors", content)


@given(head=st.dictionaries(st.text(max_size=8), entries | json_values, max_size=4), size=st.integers(0, 60))
def test_random_headers_never_crash_the_reader(
    tmp_path_factory: pytest.TempPathFactory, head: dict[str, Any], size: int
) -> None:
    read(tmp_path_factory.getbasetemp() / "random.safetensors", framed(json.dumps(head).encode(), b"\0" * size))


@given(
    tensors=st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda n: n != "__metadata__"),
        st.tuples(st.sampled_from(["BF16", "F32", "U8"]), st.lists(st.integers(0, 5), max_size=3)),
        max_size=5,
    ),
    flip=st.integers(0, 10_000),
    bit=st.integers(0, 7),
)
def test_a_flipped_bit_never_crashes_the_reader(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, tuple[str, list[int]]], flip: int, bit: int
) -> None:
    content = bytearray(safetensors(tensors))
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(content)
    assert {n: (t.dtype, list(t.shape)) for n, t in read_header(path).items()} == tensors
    content[flip % len(content)] ^= 1 << bit
    read(path, bytes(content))


# ---- whole models --------------------------------------------------------------------------------------------


def test_a_shard_that_only_the_index_knows_is_named(tmp_path: Path) -> None:
    contents = sharded()
    index = json.loads(contents[INDEX])
    index["weight_map"]["lm_head.weight"] = "extra.safetensors"
    write(tmp_path, contents | {INDEX: json.dumps(index).encode()})
    with pytest.raises(DamagedWeightsError, match=r"lacks the shard extra.safetensors"):
        check_weights(tmp_path)


def test_a_tensor_that_its_shard_lacks_is_named(tmp_path: Path) -> None:
    contents = sharded()
    index = json.loads(contents[INDEX])
    index["weight_map"]["lm_head.weight"] = FIRST
    write(tmp_path, contents | {INDEX: json.dumps(index).encode()})
    with pytest.raises(DamagedWeightsError, match=f"{FIRST} lacks 'lm_head.weight'"):
        check_weights(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    contents = sharded()
    write(tmp_path, contents | {SECOND: contents[FIRST]})
    with pytest.raises(DamagedWeightsError, match=r"holds 'model.embed_tokens.weight', which .* holds too"):
        check_weights(tmp_path)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd.safetensors", "a\\b.safetensors"])
def test_an_index_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path, sharded() | {INDEX: json.dumps({"weight_map": {"a": name}}).encode()})
    with pytest.raises(UnsafeFileNameError):
        check_weights(tmp_path)


@pytest.mark.parametrize("index", [b"{}", b"[]", b'{"weight_map": {}}', b'{"weight_map": {"a": 1}}', b"\xff"])
def test_a_malformed_index_is_refused(tmp_path: Path, index: bytes) -> None:
    write(tmp_path, sharded() | {INDEX: index})
    with pytest.raises(DamagedWeightsError, match=f"^{INDEX}"):
        check_weights(tmp_path)


def test_the_header_that_the_tests_write_is_the_format_itself() -> None:
    assert header({"a": ("BF16", [2]), "b": ("F32", [1, 3])}) == {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        "b": {"dtype": "F32", "shape": [1, 3], "data_offsets": [4, 16]},
    }
