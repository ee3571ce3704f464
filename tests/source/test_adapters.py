"""Adapters that are not merged: refused by the names of files and of tensors, and told what they are."""

import json
from pathlib import Path

import pytest

from bot import source
from bot.errors import AdapterError
from bot.source.adapters import check_adapter_tensors
from tests.source.models import TENSORS, files, safetensors, write

LORA = {"peft_type": "LORA", "base_model_name_or_path": "microsoft/Phi-3.5-mini-instruct", "r": 4}
CONFIG = {"adapter_config.json": json.dumps(LORA).encode()}
WEIGHTS = {"adapter_model.safetensors": safetensors({"base_model.model.x.lora_A.weight": ("F32", [4, 4])})}


def refused(folder: Path) -> AdapterError:
    """The same refusal from whatever looks at a folder first."""
    found = set()
    for look in (source.local_release, source.check):
        with pytest.raises(AdapterError) as caught:
            look(folder)
        found.add((caught.value.message, caught.value.hint))
    assert len(found) == 1
    assert caught.value.exit_code == 50
    return caught.value


def test_an_adapter_beside_its_base_is_not_left_out(tmp_path: Path) -> None:
    error = refused(write(tmp_path, files() | CONFIG | WEIGHTS))
    assert error.message == (
        f"{tmp_path} holds a LoRA adapter of microsoft/Phi-3.5-mini-instruct (adapter_config.json) "
        "that is not merged into the weights beside it"
    )
    assert (
        "If these weights are the merged ones, remove adapter_config.json and adapter_model.safetensors" in error.hint
    )
    assert "give the adapter without them, and it is merged" in error.hint


def test_an_adapter_alone_is_called_one(tmp_path: Path) -> None:
    for number, config in enumerate((None, files()["config.json"])):
        folder = tmp_path / str(number)
        error = refused(write(folder, files(model__safetensors=None, config__json=config) | CONFIG | WEIGHTS))
        assert error.message == (
            f"{folder} is a LoRA adapter of microsoft/Phi-3.5-mini-instruct (adapter_config.json), not a whole model"
        )


@pytest.mark.parametrize(
    ("config", "called"),
    [
        ({"peft_type": "IA3"}, "an IA3 adapter"),
        (LORA | {"use_dora": True}, "a DoRA adapter of microsoft/Phi-3.5-mini-instruct"),
        ({"peft_type": "PROMPT_TUNING"}, "a PROMPT_TUNING adapter"),
        ({"peft_type": 3, "base_model_name_or_path": ["x"]}, "an adapter"),
        ({"peft_type": "LORA", "base_model_name_or_path": "a\x1b[2Jb"}, r"a LoRA adapter of a\x1b[2Jb"),
        (None, "an adapter"),
    ],
)
def test_an_adapter_is_called_by_the_kind_in_its_config(tmp_path: Path, config: object, called: str) -> None:
    content = b"{" if config is None else json.dumps(config).encode()
    error = refused(write(tmp_path, files() | {"adapter_config.json": content}))
    assert f" holds {called} (adapter_config.json) that is not merged" in error.message


@pytest.mark.parametrize(
    "name",
    [
        "adapter_model.bin",
        "adapter_model.safetensors",
        "adapters.safetensors",
        "adapter_model-00001-of-00002.safetensors",
        "phi-lora.gguf",
        "pytorch_lora_weights.safetensors",
        "Adapter_Model.safetensors",
    ],
)
def test_the_weights_of_an_adapter_are_known_without_its_config(tmp_path: Path, name: str) -> None:
    assert f"holds an adapter ({name})" in refused(write(tmp_path, files() | {name: b"x"})).message


@pytest.mark.parametrize("name", ["exploration.safetensors", "flora.safetensors", "lora.md", "adapter.py"])
def test_other_files_are_not_adapters(tmp_path: Path, name: str) -> None:
    source.check(write(tmp_path, files() | {name: b"x"}))


def test_an_adapter_in_a_folder_of_its_own_is_left_out_with_a_word(tmp_path: Path) -> None:
    folder = write(tmp_path, files() | {"lora/adapter_config.json": b"{}", "img/a.png": b"", "logs/lora.txt": b""})
    source.check(folder)
    (note,) = source.local_release(folder).notes
    assert note == "there is an adapter in lora/; it is left out, and the weights beside it are built as they are"


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight",
        "model.layers.0.self_attn.qkv_proj.lora_B.default.weight",
        "model.layers.0.self_attn.qkv_proj.base_layer.weight",
        "model.layers.0.mlp.down_proj.ia3_l",
        "model.layers.0.self_attn.qkv_proj.lora_magnitude_vector",
        "model.embed_tokens.modules_to_save.default.weight",
        "lm_head.original_module.weight",
        "model.layers.0.self_attn.qkv_proj.lora_a",
    ],
)
def test_tensors_of_an_adapter_among_the_weights_are_known(name: str) -> None:
    with pytest.raises(AdapterError, match="belongs to an adapter") as caught:
        check_adapter_tensors([*TENSORS, name], where="a/b")
    assert name in caught.value.message


def test_the_tensors_of_a_model_are_not_an_adapters() -> None:
    check_adapter_tensors([*TENSORS, "model.layers.0.mlp.gate_up_proj.weight", "lm_head.bias"], where="a/b")
