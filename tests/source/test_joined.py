"""The joined weights of a copy: rows of its parts one after the other, in files that are whole."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import source
from bot.errors import MisfitError, OtherWeightsError
from bot.source.folder import WRITTEN
from bot.source.joined import joined_files
from bot.source.new_files import write_headers
from bot.source.safetensors_files import Tensor, check_weights, read_header
from bot.source.shape import local_shape
from tests.source.copies import LLAMA, MISTRAL, PHI_3, Tensors, contents, copy, tensors
from tests.source.models import header, write
from tests.source.test_tensors import refused

LAYER = "model.layers.1."


def with_own_bytes(folder: Path, of: Tensors, files: int = 1) -> Path:
    """Write a copy whose tensors all have other bytes, in so many files, neighbours apart."""
    write(folder, contents(of=of))
    (folder / "model.safetensors").unlink()
    owner: dict[str, str] = {}
    for number in range(files):
        name = f"model-{number + 1:05}-of-{files:05}.safetensors" if files > 1 else "model.safetensors"
        part = dict(list(of.items())[number::files])
        size = max(e["data_offsets"][1] for n, e in header(part).items() if n != "__metadata__")
        data = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8).tobytes()
        head = json.dumps(header(part)).encode()
        (folder / name).write_bytes(len(head).to_bytes(8, "little") + head + data)
        owner |= dict.fromkeys(part, name)
    if files > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": owner}))
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for file in folder.glob("*.safetensors"):
        raw = file.read_bytes()
        data = 8 + int.from_bytes(raw[:8], "little")
        found |= {n: raw[data + t.begin : data + t.end] for n, t in read_header(file).items()}
    return found


@pytest.mark.parametrize("files", [1, 2, 5])
def test_the_view_has_phi_3_s_tensors_and_beside_them_the_copy_as_it_was(tmp_path: Path, files: int) -> None:
    folder = with_own_bytes(tmp_path / "copy", tensors(LLAMA), files)
    source.check(folder)
    source.stage(folder, tmp_path / "view")
    was, joined = bytes_of(folder), bytes_of(tmp_path / "view")
    for n in range(2):
        attention, mlp = f"model.layers.{n}.self_attn.", f"model.layers.{n}.mlp."
        parts = [was.pop(f"{attention}{part}_proj.weight") for part in "qkv"]
        assert joined.pop(f"{attention}qkv_proj.weight") == b"".join(parts)
        parts = [was.pop(f"{mlp}{part}_proj.weight") for part in ("gate", "up")]
        assert joined.pop(f"{mlp}gate_up_proj.weight") == b"".join(parts)
    assert joined == was
    assert bytes_of(tmp_path / "view" / WRITTEN) == bytes_of(folder)
    configs = [json.loads((tmp_path / "view" / f / "config.json").read_text()) for f in ("", WRITTEN)]
    assert [c["architectures"] for c in configs] == [["Phi3ForCausalLM"], ["LlamaForCausalLM"]]
    source.check(tmp_path / "view")  # a whole Phi-3
    source.check(tmp_path / "view" / WRITTEN)
    assert local_shape(tmp_path / "view", configs[0]) == local_shape(folder, configs[0], "LlamaForCausalLM")


def test_a_view_to_stream_into_has_holes_where_the_other_has_bytes(tmp_path: Path) -> None:
    folder = with_own_bytes(tmp_path / "copy", tensors(LLAMA), 2)
    source.stage(folder, tmp_path / "view")
    source.stage(folder, tmp_path / "holes", holes=True)
    assert check_weights(tmp_path / "holes") == check_weights(tmp_path / "view")
    assert not any(any(data) for data in bytes_of(tmp_path / "holes").values())
    for file in source.rewritten(folder)[0]:
        with (tmp_path / "holes" / file.name).open("r+b") as opened:
            for name, (begin, end) in file.places.items():
                opened.seek(begin)
                assert opened.write(b"".join(bytes_of(folder)[part] for part in file.parts[name])) == end - begin
    assert bytes_of(tmp_path / "holes") == bytes_of(tmp_path / "view")


@given(
    heads=st.integers(1, 6),
    layers=st.integers(1, 3),
    dtype=st.sampled_from(["BF16", "F32"]),
    owners=st.lists(st.integers(1, 4), min_size=1, max_size=30),
)
def test_joined_files_hold_every_byte_once(heads: int, layers: int, dtype: str, owners: list[int]) -> None:
    config = LLAMA | {"num_attention_heads": heads, "hidden_size": 4 * heads, "num_hidden_layers": layers}
    of = {
        n: Tensor(dtype=e["dtype"], shape=tuple(e["shape"]), begin=e["data_offsets"][0], end=e["data_offsets"][1])
        for n, e in header(tensors(config, dtype)).items()
        if n != "__metadata__"
    }
    owner = {name: f"model-{owners[i % len(owners)]}.safetensors" for i, name in enumerate(of)}
    files = joined_files(of, owner, "LlamaForCausalLM", where="a/b")
    assert sorted(part for file in files for parts in file.parts.values() for part in parts) == sorted(of)
    assert sum(file.size - len(file.header) for file in files) == sum(t.end - t.begin for t in of.values())
    for file in files:
        assert len(file.header) % 8 == 0
        ends = sorted(file.places.values())
        assert [begin for begin, _ in ends] == [len(file.header), *(end for _, end in ends[:-1])]


def test_written_headers_are_those_of_whole_files(tmp_path: Path) -> None:
    folder = copy(tmp_path / "copy")
    files, _ = source.rewritten(folder)
    (tmp_path / "out").mkdir()
    write_headers(files, tmp_path / "out")
    found = read_header(tmp_path / "out" / "model.safetensors")
    assert found[LAYER + "self_attn.qkv_proj.weight"].shape == (16 + 2 * 4, 16)
    assert found[LAYER + "mlp.gate_up_proj.weight"].shape == (2 * 24, 16)


# ---- what does not fit ---------------------------------------------------------------------------------------


def test_a_tensor_of_another_shape_is_named_as_it_is_stored(tmp_path: Path) -> None:
    of = tensors(LLAMA) | {LAYER + "self_attn.k_proj.weight": ("BF16", [8, 16])}
    error = refused(copy(tmp_path / "copy", of=of), MisfitError)
    assert "self_attn.k_proj.weight of" in error.message
    assert "has the shape [8, 16], and by config.json it is [4, 16]" in error.message


@pytest.mark.parametrize("lost", ["self_attn.v_proj", "mlp.up_proj", "input_layernorm"])
def test_a_missing_part_is_named(tmp_path: Path, lost: str) -> None:
    of = {n: t for n, t in tensors(LLAMA).items() if n != f"{LAYER}{lost}.weight"}
    assert f"stores no {LAYER}{lost}.weight" in refused(copy(tmp_path / "copy", of=of), MisfitError).message


def test_a_bias_is_none_of_phi_s(tmp_path: Path) -> None:
    of = tensors(LLAMA) | {LAYER + "self_attn.q_proj.bias": ("BF16", [16])}
    error = refused(copy(tmp_path / "copy", of=of))
    assert "self_attn.q_proj.bias', which a LlamaForCausalLM does not have" in error.message


def test_parts_of_two_types_are_not_joined(tmp_path: Path) -> None:
    of = tensors(LLAMA) | {LAYER + "self_attn.q_proj.weight": ("F32", [16, 16])}
    error = refused(copy(tmp_path / "copy", of=of), OtherWeightsError)
    assert "self_attn.q_proj.weight as F32, self_attn.k_proj.weight as BF16" in error.message


def test_a_phi_3_whose_matrices_are_apart_is_told_which_class_that_is(tmp_path: Path) -> None:
    config = LLAMA | {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}
    assert "set architectures to LlamaForCausalLM" in refused(copy(tmp_path / "copy", config)).hint


def test_a_tied_copy_and_one_of_mistral_s_are_read_alike(tmp_path: Path) -> None:
    config = MISTRAL | {"tie_word_embeddings": True}
    of = {n: t for n, t in tensors(config).items() if n != "lm_head.weight"}
    folder = write(tmp_path / "copy", contents(config, PHI_3, of))
    source.check(folder)
    release = source.local_release(folder)
    assert (release.layout, release.config["model_type"]) == ("MistralForCausalLM", "phi3")
    assert release.view_bytes == 2 * release.bytes_beside_weights + release.weight_bytes


# ---- as people save them -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_a_copy_in_another_type_stays_in_it(tmp_path: Path, dtype: str) -> None:
    folder = copy(tmp_path / "copy", of=tensors(LLAMA, dtype))
    source.check(folder)
    source.stage(folder, tmp_path / "view")
    assert {t.dtype for t in check_weights(tmp_path / "view").values()} == {dtype}


@pytest.mark.parametrize("rows", [32, 33, 64])
def test_a_vocabulary_may_be_filled_up_or_enlarged(tmp_path: Path, rows: int) -> None:
    config = LLAMA | {"vocab_size": rows}
    source.check(copy(tmp_path / "copy", config, of=tensors(config)))


def test_a_head_that_is_stored_beside_a_tied_embedding_is_taken_in_both_views(tmp_path: Path) -> None:
    folder = copy(tmp_path / "copy", LLAMA | {"tie_word_embeddings": True})
    notes = source.stage(folder, tmp_path / "view")
    assert any("lm_head.weight is stored beside the embedding: it is taken" in note for note in notes)
    views = [tmp_path / "view", tmp_path / "view" / WRITTEN]
    assert [json.loads((v / "config.json").read_text())["tie_word_embeddings"] for v in views] == [False, False]
