"""The reference: what it holds, and what is said of a model that has none."""

import ast
import json
import math
import shutil
import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot import texts
from bot.errors import DamagedWeightsError
from bot.workers import sample_config, sample_tokens
from tests.toolchain_fixtures import compute_reference

pytestmark = pytest.mark.toolchain


@pytest.fixture
def damaged(sample: Path, tmp_path: Path) -> Path:
    """A copy of the sample, to be damaged."""
    return Path(shutil.copytree(sample, tmp_path / "damaged"))


def test_every_window_has_log_probabilities_of_its_scored_positions(reference: Path) -> None:
    described = _described(reference)
    assert [w["side"] for w in described["windows"]] == ["short"] * 4 + ["long"]
    for window in described["windows"]:
        scored = len(window["ids"]) - window["first_scored"]
        shape, values = _array(reference / window["file"])
        assert shape == (scored, described["vocabulary"])
        for row in (0, scored - 1):
            numbers = values[row * shape[1] : (row + 1) * shape[1]]
            assert math.fsum(math.exp(v) for v in numbers) == pytest.approx(1, abs=1e-5)


def test_the_long_window_passes_the_switch(reference: Path) -> None:
    long = _described(reference)["windows"][-1]
    assert (len(long["ids"]), long["first_scored"]) == (sample_config.SWITCH + 256, sample_config.SWITCH)


def test_predictions_are_much_better_than_chance(reference: Path) -> None:
    described = _described(reference)
    window = described["windows"][0]
    (_, vocabulary), values = _array(reference / window["file"])
    following = window["ids"][window["first_scored"] + 1 :]
    mean = sum(values[row * vocabulary + i] for row, i in enumerate(following)) / len(following)
    assert mean > 1 - math.log(vocabulary)


def test_prompts_are_rendered_with_the_chat_template(reference: Path) -> None:
    described = _described(reference)
    first = described["prompts"][0]
    assert first["text"] == "<|user|>\nWrite one sentence about the sea.<|end|>\n<|assistant|>\n"
    assert first["ids"][0] == sample_tokens.ID["<|user|>"]
    assert set(described["stop_ids"]) == {sample_tokens.ID[t] for t in ("<|end|>", "<|assistant|>", "<|endoftext|>")}


def test_the_ids_of_all_texts_are_there(reference: Path) -> None:
    described = _described(reference)["tokenizer"]
    assert described["texts"] == texts.tokenizer()
    assert len(described["ids"]) == len(described["texts"])
    assert described["ids"][described["texts"].index("")] == []


def test_a_model_without_longrope_has_short_windows_only(damaged: Path, tmp_path: Path) -> None:
    _change_json(damaged / "config.json", lambda c: c.update(rope_scaling=None))
    compute_reference(damaged, tmp_path / "out")
    assert {w["side"] for w in _described(tmp_path / "out")["windows"]} == {"short"}


def test_a_prompt_is_plain_text_without_a_chat_template(damaged: Path, tmp_path: Path) -> None:
    _change_json(damaged / "tokenizer_config.json", lambda c: c.pop("chat_template"))
    compute_reference(damaged, tmp_path / "out")
    assert _described(tmp_path / "out")["prompts"][0]["text"] == "Write one sentence about the sea."


def test_a_template_that_refuses_system_messages_gets_none(damaged: Path, tmp_path: Path) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}"
    _change_json(damaged / "tokenizer_config.json", lambda c: c.update(chat_template=refusing))
    compute_reference(damaged, tmp_path / "out")
    assert _described(tmp_path / "out")["prompts"][1]["text"] == "What is 12 plus 7?"


def _cut_shard(model: Path) -> None:
    shard = model / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1000])


def _drop_tensor(model: Path) -> None:
    header, data = _read_shard(model / "model.safetensors")
    header["model.layers.0.mlp.spare"] = header.pop("model.layers.0.mlp.down_proj.weight")
    _write_shard(model / "model.safetensors", header, data)


def _poison(model: Path) -> None:
    header, data = _read_shard(model / "model.safetensors")
    begin = header["model.layers.1.self_attn.o_proj.weight"]["data_offsets"][0]
    data[begin : begin + 2] = b"\xc0\x7f"  # NaN in bfloat16
    _write_shard(model / "model.safetensors", header, data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut shard": (_cut_shard, "model.safetensors cannot be read"),
    "no shard": (lambda m: (m / "model.safetensors").unlink(), "model.safetensors cannot be read"),
    "tensor missing": (_drop_tensor, "no safetensors file holds model.layers.0.mlp.down_proj.weight"),
    "not a number": (_poison, "model.layers.1.self_attn.o_proj.weight holds NaN or infinity"),
    "other shape": (
        lambda m: _change_json(m / "config.json", lambda c: c.update(intermediate_size=768)),
        "the weights do not fit config.json",
    ),
    "no tokenizer.json": (lambda m: (m / "tokenizer.json").write_text("{}"), "the tokenizer cannot be read"),
    "template": (
        lambda m: _change_json(m / "tokenizer_config.json", lambda c: c.update(chat_template="{% for %}")),
        "the chat template cannot be rendered",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_model_is_named_as_such(
    damaged: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(damaged)
    with pytest.raises(DamagedWeightsError, match=message):
        compute_reference(damaged, tmp_path / "out")


def _described(folder: Path) -> Any:
    return json.loads((folder / "reference.json").read_text())


def _array(path: Path) -> tuple[tuple[int, int], "array[float]"]:
    """Read a .npy file of float32 in two dimensions, without NumPy, which the tests' own environment lacks."""
    content = path.read_bytes()
    (size,) = struct.unpack("<H", content[8:10])
    header = ast.literal_eval(content[10 : 10 + size].decode())
    assert (header["descr"], header["fortran_order"]) == ("<f4", False)
    values = array("f", content[10 + size :])
    return header["shape"], values


def _change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def _read_shard(path: Path) -> tuple[dict[str, Any], bytearray]:
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])


def _write_shard(path: Path, header: dict[str, Any], data: bytearray) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
