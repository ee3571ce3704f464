"""What tensors say of a model by their names and types, and what a config then means."""

import json
import time
from pathlib import Path

import pytest

from bot import source
from bot.errors import AdapterError, OtherWeightsError, PhiBotError, UnsupportedArchitectureError
from bot.records.artifacts import Json
from bot.source.safetensors_files import read_header
from bot.source.shape import local_shape
from bot.source.tensors import as_stored, check_tensors
from tests.source.models import CONFIG, TENSORS, files, layers, safetensors, write

Tensors = dict[str, tuple[str, list[int]]]

HEAD: Tensors = {"lm_head.weight": ("BF16", [8, 4])}
LAYER: Tensors = layers(1)
WHOLE: Tensors = TENSORS | LAYER | HEAD
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True}


def model(folder: Path, tensors: Tensors, **changes: Json) -> Path:
    config = json.dumps(CONFIG | changes).encode()
    return write(folder, files(config__json=config, model__safetensors=safetensors(tensors)))


def refused(folder: Path, error: type[PhiBotError] = OtherWeightsError) -> PhiBotError:
    """The same refusal when it is planned, which reads headers, and when it is built."""
    release = source.local_release(folder)
    with pytest.raises(error) as planned:
        local_shape(folder, release.config, release.layout)
    with pytest.raises(error) as built:
        source.check(folder)
    assert planned.value.message == built.value.message
    return planned.value


def staged(folder: Path) -> tuple[dict[str, Json], tuple[str, ...]]:
    source.check(folder)
    notes = source.stage(folder, folder.with_name("staged"))
    config: dict[str, Json] = json.loads((folder.with_name("staged") / "config.json").read_text())
    return config, tuple(n for n in notes if "code from its repo" not in n)


# ---- the head ------------------------------------------------------------------------------------------------


def test_a_head_that_is_stored_is_taken_whatever_the_config_says(tmp_path: Path) -> None:
    config, notes = staged(model(tmp_path / "m", WHOLE, tie_word_embeddings=True))
    assert config["tie_word_embeddings"] is False
    assert notes == (
        "config.json says tie_word_embeddings, and lm_head.weight is stored beside the embedding: it is taken",
    )


@pytest.mark.parametrize(("tensors", "tied"), [(TENSORS | LAYER, True), (WHOLE, False), (WHOLE, None)])
def test_a_config_that_agrees_with_the_stored_tensors_stays(
    tmp_path: Path, tensors: Tensors, tied: bool | None
) -> None:
    changes = {} if tied is None else {"tie_word_embeddings": tied}
    given = {k: v for k, v in (CONFIG | changes).items() if tied is not None or k != "tie_word_embeddings"}
    folder = write(
        tmp_path / "m", files(config__json=json.dumps(given).encode(), model__safetensors=safetensors(tensors))
    )
    config, notes = staged(folder)
    assert (config, notes) == ({k: v for k, v in given.items() if k != "auto_map"}, ())


@pytest.mark.parametrize("tied", [False, None])
def test_a_head_that_nobody_stored_is_not_made_up(tmp_path: Path, tied: bool | None) -> None:
    given = {k: v for k, v in CONFIG.items() if k != "tie_word_embeddings"} | (
        {} if tied is None else {"tie_word_embeddings": tied}
    )
    error = refused(write(tmp_path, files(config__json=json.dumps(given).encode())))
    assert error.message == (
        f"{tmp_path} stores no lm_head.weight, and config.json does not say tie_word_embeddings: "
        "transformers would make one up"
    )
    assert error.exit_code == 51


def test_a_head_without_an_embedding_is_not_a_model(tmp_path: Path) -> None:
    error = refused(model(tmp_path, LAYER | HEAD | {"model.norm.weight": ("F32", [4])}))
    assert "stores no model.embed_tokens.weight" in error.message


# ---- quantized or not ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["quantization_config", "compression_config", "quantization"])
def test_weights_of_full_precision_are_not_quantized_whatever_the_config_says(tmp_path: Path, key: str) -> None:
    config, notes = staged(model(tmp_path / "m", WHOLE, tie_word_embeddings=False, **{key: BNB}))
    assert key not in config
    assert notes == (
        f"config.json has {key} ('bitsandbytes'), and the weights are not quantized: it is built without the key",
    )


def test_a_key_left_null_is_left_out(tmp_path: Path) -> None:
    config, notes = staged(model(tmp_path / "m", WHOLE, tie_word_embeddings=False, quantization_config=None))
    assert "quantization_config" not in config
    assert notes == ()


@pytest.mark.parametrize("config", [{}, {"quantization_config": BNB}])
@pytest.mark.parametrize(
    ("name", "dtype"), [("qkv_proj.weight", "U8"), ("qkv_proj.qweight", "I32"), ("o_proj.weight", "F8_E4M3")]
)
def test_quantized_weights_are_known_without_the_key(tmp_path: Path, config: Json, name: str, dtype: str) -> None:
    name = f"model.layers.0.self_attn.{name}"
    error = refused(model(tmp_path, WHOLE | {name: (dtype, [2, 2])}, **config), UnsupportedArchitectureError)
    how = "by 'bitsandbytes': " if config else ""
    assert error.message == f"{tmp_path} is quantized already ({how}'{name}' is stored as {dtype})"


def test_weights_in_double_precision_are_named(tmp_path: Path) -> None:
    error = refused(model(tmp_path, WHOLE | {"model.norm.weight": ("F64", [4])}))
    assert error.message == f"{tmp_path} stores 'model.norm.weight' as F64, which converters do not read"


# ---- names ---------------------------------------------------------------------------------------------------


def test_a_prefix_of_another_model_is_named(tmp_path: Path) -> None:
    error = refused(model(tmp_path, {f"language_model.{name}": tensor for name, tensor in WHOLE.items()}))
    assert f"{tmp_path} has its tensors under the prefix 'language_model.'" in error.message
    assert "rename them" in error.hint


def test_a_wrapper_inside_of_a_name_is_named(tmp_path: Path) -> None:
    inside = {n.replace("layers.0.", "layers.0._orig_mod."): t for n, t in WHOLE.items()}
    assert "under the prefix '_orig_mod.', as 'model.layers.0._orig_mod." in refused(model(tmp_path, inside)).message
    both = {f"module.{n}": t for n, t in inside.items()}
    assert "under the prefix '_orig_mod.', as 'model.layers.0._orig_mod." in refused(model(tmp_path, both)).message


def test_a_body_without_its_prefix_is_called_that(tmp_path: Path) -> None:
    bare = {n.removeprefix("model."): t for n, t in WHOLE.items()}
    assert "has its tensors without the prefix 'model.'" in refused(model(tmp_path, bare)).message


@pytest.mark.parametrize(
    "name",
    [
        "v_head.summary.weight",
        "score.weight",
        "model.layers.0.self_attn.qkv_proj.bias",
        "model.layers.0.block_sparse_moe.gate.weight",
        "model.visual.weight",
        "lm_head.bias",
    ],
)
def test_a_tensor_that_the_class_does_not_have_is_not_dropped_in_silence(tmp_path: Path, name: str) -> None:
    error = refused(model(tmp_path, WHOLE | {name: ("BF16", [2, 2])}))
    assert error.message == f"{tmp_path} holds '{name}', which a Phi3ForCausalLM does not have"
    assert "a value head" in error.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("model.layers.0.self_attn.q_proj.weight", "set architectures to LlamaForCausalLM"),
        ("model.layers.0.mlp.gate_proj.weight", "set architectures to LlamaForCausalLM"),
        ("transformer.h.0.mixer.Wqkv.weight", "convert_phi_weights_to_hf.py"),
    ],
)
def test_other_layouts_are_told_from_extra_tensors(tmp_path: Path, name: str, hint: str) -> None:
    error = refused(model(tmp_path, WHOLE | {name: ("BF16", [2, 2])}))
    assert f"holds '{name}', which a Phi3ForCausalLM does not have" in error.message
    assert hint in error.hint


def test_inverse_frequencies_stored_by_old_versions_are_ignored(tmp_path: Path) -> None:
    source.check(model(tmp_path, WHOLE | {"model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", [4])}))


def test_an_adapter_s_tensors_are_known_before_they_are_unknown(tmp_path: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight"
    assert name in refused(model(tmp_path, WHOLE | {name: ("F32", [2, 2])}), AdapterError).message


def test_of_other_classes_nothing_is_known(tmp_path: Path) -> None:
    tensors = read_header(model(tmp_path, {"x.lora_A.weight": ("F32", [2])}) / "model.safetensors")
    check_tensors(tensors, {"architectures": ["Phi4MultimodalForCausalLM"]}, where="a/b")
    assert as_stored({"architectures": ["Other"]}, tensors) == ({"architectures": ["Other"]}, ())


@pytest.mark.large
def test_names_that_are_made_to_cost_are_refused_at_once(tmp_path: Path) -> None:
    names = ("a." * 4_000_000, "_orig_mod." * 400_000, *(f"{n}.lora" for n in range(100_000)))
    tensors = read_header(model(tmp_path, WHOLE | dict.fromkeys(names, ("BF16", [1]))) / "model.safetensors")
    began = time.monotonic()
    with pytest.raises(OtherWeightsError, match="and 100001 more, which a Phi3ForCausalLM does not have"):
        check_tensors(tensors, CONFIG, where="a/b")
    assert time.monotonic() - began < 30  # trying every part of such a name takes days
