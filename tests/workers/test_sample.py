"""The sample checkpoint: true to its large relatives, and always the same."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bot import texts
from bot.progress import Silent
from bot.tasks import SampleTask
from bot.toolchains.enter import child_environment, run_worker
from bot.toolchains.install import ensure
from bot.workers import sample_config
from bot.workers.sample_dialogue import conversations

# What config.json of microsoft/Phi-3.5-mini-instruct holds.
PHI_3_5_KEYS = {
    "_name_or_path",
    "architectures",
    "attention_bias",
    "attention_dropout",
    "auto_map",
    "bos_token_id",
    "embd_pdrop",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "original_max_position_embeddings",
    "pad_token_id",
    "resid_pdrop",
    "rms_norm_eps",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "vocab_size",
}
PHI_3_5_FILES = {
    "LICENSE",
    "README.md",
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
}


def test_the_config_has_the_keys_of_phi_3_5() -> None:
    config = sample_config.config()
    assert config.keys() == PHI_3_5_KEYS
    assert sorted(config["rope_scaling"]) == ["long_factor", "short_factor", "type"]


def test_the_shape_suits_every_toolchain() -> None:
    config = sample_config.config()
    head = config["hidden_size"] // config["num_attention_heads"]
    assert config["hidden_size"] % 256 == config["intermediate_size"] % 256 == 0, "k-quants"
    assert head // 2 % 8 == 0, "GroupQueryAttention of ONNX Runtime"
    assert len(config["rope_scaling"]["long_factor"]) == len(config["rope_scaling"]["short_factor"]) == head // 2
    assert config["original_max_position_embeddings"] == 512
    assert max(sample_config.ID.values()) < config["vocab_size"]


def test_conversations_alternate_and_end_with_an_answer() -> None:
    for conversation in conversations(50, seed=3):
        roles = [m["role"] for m in conversation if m["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
    assert conversations(50, seed=3) == conversations(50, seed=3) != conversations(50, seed=4)


@pytest.mark.toolchain
def test_it_has_the_files_that_phi_3_5_has(sample: Path) -> None:
    assert {p.name for p in sample.iterdir()} == PHI_3_5_FILES


@pytest.mark.toolchain
def test_it_is_made_to_the_byte_as_before_and_has_learnt_something(sample: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    result = run_worker(
        ensure("reference", Silent()),
        "sample",
        "make",
        SampleTask(out=str(again)),
        log=tmp_path / "log",
        on_event=lambda _: None,
    )
    assert _digests(again) == _digests(sample)
    assert 2_000_000 < result["parameters"] < 10_000_000
    uniform = 7.6  # nats: the logarithm of the vocabulary
    assert result["loss"]["short"] < uniform - 1
    assert result["loss"]["long"] < uniform - 1


@pytest.mark.toolchain
def test_both_forms_of_its_tokenizer_give_the_same_ids(sample: Path) -> None:
    marks = ("<|", "<s>", "</s>", "<unk>")  # which SentencePiece itself does not know
    plain = [t for t in texts.tokenizer() if not any(m in t for m in marks)]
    script = """
import json, sys
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer
folder, strings = sys.argv[1], json.load(sys.stdin)
pieces = SentencePieceProcessor(model_file=folder + "/tokenizer.model")
fast = Tokenizer.from_file(folder + "/tokenizer.json")
print(json.dumps([[pieces.encode(s), fast.encode(s, add_special_tokens=False).ids] for s in strings]))
"""
    for slow, fast in _run(script, sample, plain):
        assert slow == fast


@pytest.mark.toolchain
def test_marks_swallow_the_white_space_after_them_as_phi_3s_do(sample: Path) -> None:
    script = """
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
print(json.dumps([tokenizer.encode(s, add_special_tokens=False) for s in json.load(sys.stdin)]))
"""
    marks = sample_config.ID
    with_line, without, end_of_text = _run(
        script, sample, ["<|user|>\n<|end|>\n", "<|user|><|end|>", "<|endoftext|>\n"]
    )
    assert with_line == without == [marks["<|user|>"], marks["<|end|>"]]
    assert len(end_of_text) > 1


@pytest.mark.toolchain
def test_it_answers_and_ends_its_answers(reference: Path) -> None:
    answers = json.loads((reference / "reference.json").read_text())["greedy"]
    assert len(answers) == len(texts.prompts())
    assert all(0 < len(answer) < 32 for answer in answers)


def _digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def _run(script: str, folder: Path, strings: list[str]) -> Any:
    """Run a script in the reference toolchain: the folder as its argument, strings on its input."""
    done = subprocess.run(
        [str(ensure("reference", Silent()).python), "-I", "-c", script, str(folder)],
        input=json.dumps(strings),
        env=child_environment("/nonexistent"),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
