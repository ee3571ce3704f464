"""A model with pictures or speech is read by its text part, a Phi-3; what is left out is counted, and said."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import source
from bot.errors import AdapterError, ConfigValueError, MisfitError, OtherWeightsError, UnsupportedArchitectureError
from bot.records.artifacts import LeftOut, Release
from bot.source.safetensors_files import Tensor
from bot.source.shape import local_shape
from bot.source.text_parts import TEXT_PARTS, left_out_of, text_part_of, text_tensors
from tests.source.test_joined import bytes_of, with_own_bytes
from tests.source.test_tensors import refused
from tests.source.text_parts import CONFIGS, TOWERS, Tensors, model, stored_name, tensors, text

KINDS = list(CONFIGS)
GIVEN = {"phi3_v": ("pictures",), "phi4mm": ("pictures", "speech"), "phi4-siglip": ("pictures",)}
LAYOUT = {kind: name for name, kind in TEXT_PARTS.items()}


def in_files(folder: Path, kind: str, files: int = 1) -> Path:
    """Write a model of that kind whose tensors all have other bytes."""
    with_own_bytes(folder, tensors(kind), files)
    (folder / "config.json").write_text(json.dumps(CONFIGS[kind]))
    return folder


def size_of(of: Tensors) -> int:
    return sum(math.prod(shape) * (8 if dtype == "I64" else 2) for dtype, shape in of.values())


# ---- what is read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_view_is_a_whole_phi_3_with_the_bytes_of_the_text_part(tmp_path: Path, kind: str, files: int) -> None:
    folder = in_files(tmp_path / "model", kind, files)
    source.check(folder)
    source.stage(folder, tmp_path / "view")
    was, view = bytes_of(folder), bytes_of(tmp_path / "view")
    assert view == {name: was[stored_name(kind, name)] for name in text(CONFIGS[kind])}
    config = json.loads((tmp_path / "view" / "config.json").read_text())
    assert (config["architectures"], config["model_type"]) == (["Phi3ForCausalLM"], "phi3")
    assert not config.keys() & {"auto_map", "embd_layer", "img_processor", "vision_config", "speech_lora"}
    assert not [key for key in config if key.startswith(("mm_", "_attn"))]
    source.check(tmp_path / "view")
    assert not list((tmp_path / "view").rglob("*.py"))
    release = source.local_release(folder)
    assert local_shape(folder, release.config, release.layout) == local_shape(tmp_path / "view", config)


def test_longrope_and_a_partial_rotation_stay_what_they_are(tmp_path: Path) -> None:
    older = source.local_release(model(tmp_path / "vision", "phi3_v")).config
    assert older["rope_scaling"]["type"] == "longrope"  # it is called su in the repo
    newer = source.local_release(model(tmp_path / "multimodal", "phi4mm")).config
    assert (newer["partial_rotary_factor"], newer["tie_word_embeddings"]) == (0.75, True)


def test_an_embedding_that_is_stored_with_the_vision_part_is_the_text_s(tmp_path: Path) -> None:
    of = tensors("phi3_v")
    of["model.vision_embed_tokens.wte.weight"] = of.pop("model.embed_tokens.weight")
    folder = model(tmp_path / "model", "phi3_v", of)
    source.check(folder)
    source.stage(folder, tmp_path / "view")
    assert "model.embed_tokens.weight" in bytes_of(tmp_path / "view")
    twice = of | {"model.embed_tokens.weight": ("BF16", [32, 16])}
    assert left_out(model(tmp_path / "twice", "phi3_v", twice)).tensors == len(TOWERS["phi3_v"]) + 1


def test_a_matrix_without_the_layer_that_an_adapter_wraps_is_read_too(tmp_path: Path) -> None:
    of = {name.replace(".base_layer", ""): t for name, t in tensors("phi4mm").items() if ".lora_" not in name}
    source.check(model(tmp_path / "model", "phi4mm", of))


# ---- what is said --------------------------------------------------------------------------------------------


def release_of(folder: Path) -> Release:
    return source.local_release(folder)


def left_out(folder: Path) -> LeftOut:
    found = release_of(folder).left_out
    assert found is not None
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_out_is_counted(tmp_path: Path, kind: str) -> None:
    release = release_of(model(tmp_path / "model", kind))
    assert release.left_out == LeftOut(inputs=GIVEN[kind], tensors=len(TOWERS[kind]), bytes=size_of(TOWERS[kind]))
    assert release.read_bytes == release.weight_bytes - size_of(TOWERS[kind])
    assert release.parameters == release.read_bytes // 2
    assert release.view_bytes == release.bytes_beside_weights + release.read_bytes
    assert Release.from_json(release.to_json()) == release


def test_the_plan_and_the_view_say_it_in_a_line(tmp_path: Path) -> None:
    folder = model(tmp_path / "model", "phi4mm")
    line = (
        "its class is Phi4MMForCausalLM, and its text part alone is read, as Phi-3: pictures and speech cannot be "
        f"given to the files, and the 21 tensors for them ({size_of(TOWERS['phi4mm']) / 1000:.1f} kB) are not in these"
    )
    assert release_of(folder).read_as == line
    assert line in source.stage(folder, tmp_path / "view")


def test_a_phi_without_pictures_leaves_nothing_out(tmp_path: Path) -> None:
    folder = in_files(tmp_path / "model", "phi4-siglip")
    source.stage(folder, tmp_path / "view")
    assert release_of(tmp_path / "view").left_out is None


# ---- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("phi3_v", "model.audio_embed_tokens.encoder.weight"),
        ("phi3_v", "model.vision_embed_tokens.resampler.weight"),
        ("phi3_v", "model.layers.0.self_attn.qkv_proj.base_layer.weight"),
        ("phi4mm", "model.embed_tokens_extend.video_embed.glb_GN"),
        ("phi4mm", "model.layers.0.input_layernorm.base_layer.weight"),
        ("phi4-siglip", "model.audio_tower.weight"),
        ("phi4-siglip", "v_head.summary.weight"),
    ],
)
def test_a_tensor_that_is_of_no_known_part_is_refused_by_its_name(tmp_path: Path, kind: str, name: str) -> None:
    error = refused_part(tmp_path, kind, tensors(kind) | {name: ("BF16", [2])}, (AdapterError, OtherWeightsError))
    assert name in error


def test_an_adapter_that_microsoft_s_repo_does_not_have_is_not_left_out_silently(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.qkv_proj.lora_A.default.weight"
    assert name in refused_part(tmp_path, "phi4mm", tensors("phi4mm") | {name: ("BF16", [2, 16])}, AdapterError)


def test_a_matrix_under_two_names_is_refused(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.qkv_proj.weight"
    of = tensors("phi4mm") | {name: ("BF16", [32, 16])}
    with pytest.raises(OtherWeightsError, match="are one matrix"):
        source.local_release(model(tmp_path / "model", "phi4mm", of))


def test_a_text_part_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    of = {n: t for n, t in tensors("phi4mm").items() if n != "model.layers.1.mlp.down_proj.base_layer.weight"}
    error = refused(model(tmp_path / "model", "phi4mm", of), MisfitError)
    assert "stores no model.layers.1.mlp.down_proj.weight" in error.message


def test_a_config_of_another_model_or_without_sizes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArchitectureError, match="is a Phi3VForCausalLM whose model_type is 'llava'"):
        source.local_release(model(tmp_path / "other", "phi3_v", model_type="llava"))
    with pytest.raises(ConfigValueError, match="does not say hidden_size"):
        source.local_release(with_config(tmp_path / "nothing", "phi4-siglip", without="hidden_size"))


def with_config(folder: Path, kind: str, *, without: str) -> Path:
    written = model(folder, kind) / "config.json"
    written.write_text(json.dumps({k: v for k, v in CONFIGS[kind].items() if k != without}))
    return folder


def refused_part(tmp_path: Path, kind: str, of: Tensors, error: type[Exception] | tuple[type[Exception], ...]) -> str:
    with pytest.raises(error) as caught:
        source.check(model(tmp_path / "model", kind, of))
    return str(caught.value)


# ---- every tensor has one meaning ----------------------------------------------------------------------------


@given(kind=st.sampled_from(KINDS), chosen=st.sets(st.integers(0, 60)))
def test_each_tensor_is_read_once_or_counted_once(kind: str, chosen: set[int]) -> None:
    of = {
        name: Tensor(dtype="BF16", shape=(number + 1,), begin=0, end=2 * (number + 1))
        for number, name in enumerate(tensors(kind))
        if number not in chosen
    }
    names = text_tensors(of, LAYOUT[kind], where="a/b")
    left = left_out_of(of, LAYOUT[kind], where="a/b")
    assert len(names) + left.tensors == len(of)
    assert left.bytes + sum(of[n].end for n in names.values()) == sum(t.end for t in of.values())
    assert names.keys() <= text(CONFIGS[kind]).keys()


def test_a_type_stands_for_its_class() -> None:
    assert text_part_of({"model_type": "phi4mm"}) == "Phi4MMForCausalLM"
    assert text_part_of({"architectures": ["Phi4ForCausalLMV"]}) == "Phi4ForCausalLMV"
    assert text_part_of({"architectures": ["Phi3ForCausalLM"], "model_type": "phi3_v"}) == ""
