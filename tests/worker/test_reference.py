"""The reference: what it holds, and what is said of a model that has none."""

import json
import math
import shutil
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot import texts
from bot.errors import (
    ChatTemplateError,
    DamagedTokenizerError,
    DamagedWeightsError,
    MisfitError,
    NotFiniteError,
    SourceError,
    UnreadableModelError,
)
from bot.worker.head import Head
from bot.worker.sample import config as sample_config
from bot.worker.sample import tokens
from tests.toolchain_fixtures import compute_reference
from tests.worker import hostile

pytestmark = pytest.mark.toolchain


@pytest.fixture
def damaged(sample: Path, tmp_path: Path) -> Path:
    """A copy of the sample, to be damaged."""
    return Path(shutil.copytree(sample, tmp_path / "damaged"))


def test_every_window_has_hidden_states_of_its_scored_positions(sample: Path, reference: Path) -> None:
    size = json.loads((sample / "config.json").read_text())["hidden_size"]
    windows = _described(reference)["windows"]
    assert Counter(w["kind"] for w in windows) == dict.fromkeys(texts.evaluation_by_kind(), 2) | {"mixed": 2}
    for window in windows:
        states = np.load(reference / window["file"])
        assert states.shape == (len(window["scored"]), size)
        assert states.dtype == np.float32
        assert np.isfinite(states).all()


def test_one_window_reaches_to_the_switch_and_one_passes_it(reference: Path) -> None:
    deep, long = (w for w in _described(reference)["windows"] if w["kind"] == "mixed")
    assert (deep["side"], len(deep["ids"])) == ("short", sample_config.SWITCH)
    assert (long["side"], len(long["ids"])) == ("long", sample_config.SWITCH + 256)
    assert long["scored"] == list(range(sample_config.SWITCH, sample_config.SWITCH + 256))


def test_predictions_are_much_better_than_chance(sample: Path, reference: Path) -> None:
    described = _described(reference)
    window = described["windows"][0]
    logits = Head(sample, described["head"]).logits(np.load(reference / window["file"])).astype(np.float64)
    predicted = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    text = [*window["ids"], window["following"]]
    assert predicted.shape[-1] == described["vocabulary"]
    mean = np.mean([predicted[row, text[at + 1]] for row, at in enumerate(window["scored"])])
    assert mean > 1 - math.log(described["vocabulary"])


def test_prompts_are_rendered_with_the_chat_template(reference: Path) -> None:
    described = _described(reference)
    first = described["prompts"][0]
    assert first["text"] == "<|user|>\nWrite one sentence about the sea.<|end|>\n<|assistant|>\n"
    assert first["ids"][0] == tokens.ID["<|user|>"]
    assert set(described["stop_ids"]) == {tokens.ID[t] for t in ("<|end|>", "<|assistant|>", "<|endoftext|>")}


def test_conversations_are_written_as_the_template_writes_them(reference: Path) -> None:
    chats = {c["name"]: c for c in _described(reference)["chats"]}
    assert set(chats) == {c["name"] for c in texts.conversations()} - TOOLS, "its template leaves tools out"
    answered = chats["a question and its answer"]
    said = "<|user|>\nWhat is 12 plus 7?<|end|>\n<|assistant|>\n12 plus 7 is 19.<|end|>\n<|endoftext|>"
    assert answered["text"] == said
    assert answered["messages"][1] == {"role": "assistant", "content": "12 plus 7 is 19."}


def test_answers_end_where_the_original_ends_them(reference: Path) -> None:
    endings = _described(reference)["endings"]
    assert len(endings) == 3, "the sample was taught to end its answers"
    assert all(ids[0] == tokens.ID["<|user|>"] for ids in endings if ids[0] != tokens.ID["<|system|>"])
    assert all(ids[-1] not in _described(reference)["stop_ids"] for ids in endings)


def test_a_prompt_to_which_the_original_says_something_is_not_silent(reference: Path) -> None:
    assert [p["silent"] for p in _described(reference)["prompts"]] == [False] * len(texts.prompts())


def test_the_ids_of_all_texts_are_there_and_the_texts_decoded_from_them(reference: Path) -> None:
    described = _described(reference)["tokenizer"]
    assert described["texts"] == texts.tokenizer()
    assert len(described["ids"]) == len(described["decoded"]) == len(described["texts"])
    by_text = {t: (i, d) for t, i, d in zip(*(described[k] for k in ("texts", "ids", "decoded")), strict=True)}
    assert by_text[""] == ([], "")
    assert by_text["<|end|>"] == ([tokens.ID["<|end|>"]], "<|end|>")
    assert by_text["  Hello"][1] == "  Hello"


def test_a_model_without_longrope_has_short_windows_only(damaged: Path, tmp_path: Path) -> None:
    _change_json(damaged / "config.json", lambda c: c.update(rope_scaling=None))
    compute_reference(damaged, tmp_path / "out")
    assert {w["side"] for w in _described(tmp_path / "out")["windows"]} == {"short"}


def test_a_prompt_is_plain_text_without_a_chat_template(damaged: Path, tmp_path: Path) -> None:
    _change_json(damaged / "tokenizer_config.json", lambda c: c.pop("chat_template"))
    compute_reference(damaged, tmp_path / "out")
    described = _described(tmp_path / "out")
    assert described["prompts"][0]["text"] == "Write one sentence about the sea."
    assert (described["chats"], described["endings"]) == ([], [])
    assert any(p["silent"] for p in described["prompts"]), "the sample was taught to answer in its template alone"


def test_a_system_message_that_a_template_refuses_is_left_out(damaged: Path, tmp_path: Path) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    every = "{% for m in messages %}{{ m.content }}{% endfor %}"
    _change_json(damaged / "tokenizer_config.json", lambda c: c.update(chat_template=refusing + every))
    compute_reference(damaged, tmp_path / "out")
    described = _described(tmp_path / "out")
    assert described["prompts"][1]["text"] == "What is 12 plus 7?"
    refused = {c["name"] for c in texts.conversations() if c["messages"][0]["role"] == "system"}
    assert {c["name"] for c in described["chats"]} == {c["name"] for c in texts.conversations()} - refused


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_a_template_that_means_harm_is_stopped(damaged: Path, tmp_path: Path, kind: str) -> None:
    template = "{% if tools %}" + hostile.TEMPLATES[kind] + "{% endif %}{{ messages[0].content }}"
    _change_json(damaged / "tokenizer_config.json", lambda c: c.update(chat_template=template))
    with pytest.raises(ChatTemplateError, match=r"rendered: it (takes|writes) too much .*\(a tool\)"):
        compute_reference(damaged, tmp_path / "out")


@pytest.mark.parametrize(
    ("tools", "taken"),
    [("{{ tools | tojson }}", "a tool"), ("{{ m.tools }}", "a tool in the system message")],
)
def test_tools_are_asked_of_a_template_that_writes_them(damaged: Path, tmp_path: Path, tools: str, taken: str) -> None:
    template = "{% for m in messages %}{{ m.content }}" + tools + "{% endfor %}"
    _change_json(damaged / "tokenizer_config.json", lambda c: c.update(chat_template=template))
    compute_reference(damaged, tmp_path / "out")
    assert {c["name"] for c in _described(tmp_path / "out")["chats"]} & TOOLS == {taken}


def test_the_cost_of_computing_is_returned(sample: Path, tmp_path: Path) -> None:
    told = compute_reference(sample, tmp_path / "out")
    assert told["scored"] == sum(len(w["scored"]) for w in _described(tmp_path / "out")["windows"])
    assert 0 < told["seconds"] < 600
    assert 100e6 < told["peak_memory"] < 4e9


def _cut_shard(model: Path) -> None:
    shard = model / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1000])


def _drop_tensor(model: Path) -> None:
    header, data = _read_shard(model / "model.safetensors")
    header["model.layers.0.mlp.spare"] = header.pop("model.layers.0.mlp.down_proj.weight")
    _write_shard(model / "model.safetensors", header, data)


def _drop_tokenizer(model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer.model"):
        (model / name).unlink()


def _poison(model: Path, tensor: str) -> None:
    header, data = _read_shard(model / "model.safetensors")
    begin = header[tensor]["data_offsets"][0]
    data[begin : begin + 2] = b"\xc0\x7f"  # NaN in bfloat16
    _write_shard(model / "model.safetensors", header, data)


DAMAGES: dict[str, tuple[Callable[[Path], object], type[SourceError], str]] = {
    "cut shard": (_cut_shard, DamagedWeightsError, "model.safetensors is damaged: it is shorter than its tensors"),
    "no shard": (lambda m: (m / "model.safetensors").unlink(), DamagedWeightsError, "there are no weights"),
    "tensor missing": (_drop_tensor, MisfitError, "no safetensors file holds model.layers.0.mlp.down_proj.weight"),
    "not a number": (
        lambda m: _poison(m, "model.layers.1.self_attn.o_proj.weight"),
        NotFiniteError,
        "model.layers.1.self_attn.o_proj.weight holds NaN or infinity",
    ),
    "other shape": (
        lambda m: _change_json(m / "config.json", lambda c: c.update(intermediate_size=768)),
        MisfitError,
        r"the weights do not fit config.json: model.layers.0.mlp.gate_up_proj.weight has the shape \[1024,",
    ),
    "no config": (lambda m: (m / "config.json").write_text("{"), UnreadableModelError, "config.json cannot be read"),
    "unknown architecture": (
        lambda m: _change_json(m / "config.json", lambda c: c.update(model_type="phi9")),
        UnreadableModelError,
        "config.json cannot be read",
    ),
    "head not a number": (
        lambda m: _poison(m, "lm_head.weight"),
        NotFiniteError,
        "numbers that are not finite .lm_head.weight holds NaN or infinity",
    ),
    "no tokenizer.json": (
        lambda m: (m / "tokenizer.json").write_text("{}"),
        UnreadableModelError,
        "the tokenizer cannot be read",
    ),
    "neither tokenizer": (
        _drop_tokenizer,
        DamagedTokenizerError,
        "the tokenizer cannot be read: there is neither",
    ),
    "template": (
        lambda m: _change_json(m / "tokenizer_config.json", lambda c: c.update(chat_template="{% for %}")),
        ChatTemplateError,
        "the chat template cannot be rendered",
    ),
}


@pytest.mark.parametrize(("damage", "error", "message"), DAMAGES.values(), ids=DAMAGES)
def test_each_damage_of_a_model_has_its_error(
    damaged: Path, tmp_path: Path, damage: Callable[[Path], object], error: type[SourceError], message: str
) -> None:
    damage(damaged)
    with pytest.raises(error, match=message):
        compute_reference(damaged, tmp_path / "out")


TOOLS = {"a tool", "a tool in the system message"}


def _described(folder: Path) -> Any:
    return json.loads((folder / "reference.json").read_text())


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
