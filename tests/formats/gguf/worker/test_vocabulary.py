"""The vocabulary of a GGUF file is the same whichever version of transformers saved the tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import bot
from bot.progress import Silent
from bot.records.artifacts import Json
from bot.toolchains.install import ensure
from tests.worker.running import copy_of, run_python

pytestmark = pytest.mark.toolchain

ROOT = Path(bot.__file__).parents[1]
CLASSES = (
    "TokenizersBackend",
    "PreTrainedTokenizerFast",
    "LlamaTokenizer",
    "LlamaTokenizerFast",
    "GPT2Tokenizer",
    None,
)

# Saves the tokenizer of the first folder anew into the second, as a person does with today's transformers.
SAVE = """
import sys
from transformers import AutoTokenizer
AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])
"""
# Prints what the converter puts into the header of each folder's file.
HEADERS = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from bot.records.tasks import BuildTask
from bot.formats.gguf.worker.convert import read_model
out = Path(sys.argv[2])
for source in sys.argv[3:]:
    task = BuildTask(source=source, model_name="Phi", targets=(), scratch=str(out), threads=1)
    metadata = read_model(task, "BF16", out / "unused.gguf").kv_data[0]
    print(json.dumps({name: entry.value for name, entry in metadata.items()}, default=bytes.decode))
"""


def headers(out: Path, *sources: Path) -> list[dict[str, Json]]:
    """The metadata of each source's file."""
    out.mkdir(exist_ok=True)
    printed = run_python(ensure("gguf", Silent()), HEADERS, ROOT, out, *sources)
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def rewrite(path: Path, content: str) -> None:
    """Replace a file of a copy, which may be a link to the sample's own."""
    path.unlink(missing_ok=True)
    path.write_text(content)


def saved_anew(sample: Path, folder: Path) -> Path:
    """A checkpoint whose tokenizer was saved by today's transformers alone."""
    source = copy_of(sample, folder)
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        (source / name).unlink(missing_ok=True)
    for name in ("added_tokens.json", "vocab.json", "merges.txt"):
        (source / name).unlink(missing_ok=True)
    run_python(ensure("reference", Silent()), SAVE, sample, source)
    assert not (source / "tokenizer.model").exists()
    return source


def of_class(anew: Path, name: str | None) -> Path:
    """A copy that names another class in tokenizer_config.json, or none."""
    source = copy_of(anew, anew.parent / f"class {name}")
    config = json.loads((source / "tokenizer_config.json").read_text()) | {"tokenizer_class": name}
    rewrite(source / "tokenizer_config.json", json.dumps({k: v for k, v in config.items() if v is not None}))
    return source


@pytest.mark.parametrize("family", ["phi-3.5-mini", "phi-4"])
def test_a_tokenizer_saved_today_gives_the_vocabulary_of_its_older_files_whatever_its_class(
    sample_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    sample = sample_of(family)
    anew = saved_anew(sample, tmp_path / "anew")
    older, *newer = headers(tmp_path / "out", sample, *(of_class(anew, name) for name in CLASSES))
    scores = older.pop("tokenizer.ggml.scores", None)
    for header in newer:
        found = header.pop("tokenizer.ggml.scores", None)
        assert header == older
        if scores is None:
            assert found is None
            continue
        # Of the trained model's scores only their order counts, and tokenizer.json has no more of them: runs of spaces,
        # which were moved behind all other pieces by hand, get the scores of the next free places there.
        tokens = older["tokenizer.ggml.tokens"]
        assert {tokens[i] for i, (a, b) in enumerate(zip(scores, found, strict=True)) if a != b} <= {
            "▁" * n for n in range(2, 64)
        }
        joined = {"".join(m) for m in json.loads((sample / "tokenizer.json").read_text())["model"]["merges"]}
        ids = [i for i, token in enumerate(tokens) if token in joined]
        assert sorted(ids, key=lambda i: -scores[i]) == sorted(ids, key=lambda i: -found[i])


def test_a_tokenizer_model_of_another_tokenizer_counts_for_nothing(sample: Path, tmp_path: Path) -> None:
    source = copy_of(sample, tmp_path / "source")
    pieces = json.loads((source / "tokenizer.json").read_text())
    vocabulary = pieces["model"]["vocab"]
    vocabulary["ш"], vocabulary["й"] = vocabulary["й"], vocabulary["ш"]
    rewrite(source / "tokenizer.json", json.dumps(pieces))
    (header,) = headers(tmp_path / "out", source)
    assert header["tokenizer.ggml.tokens"][vocabulary["ш"]] == "ш"
    assert header["tokenizer.ggml.tokens"][vocabulary["й"]] == "й"


def test_the_template_is_the_one_that_transformers_uses(sample: Path, tmp_path: Path) -> None:
    older = json.loads((sample / "tokenizer_config.json").read_text())["chat_template"]
    newer = older.replace("<|end|>", "<|end|> ")

    def with_template(name: str, template: Json, **files: str) -> Path:
        source = copy_of(sample, tmp_path / name)
        config = json.loads((source / "tokenizer_config.json").read_text()) | {"chat_template": template}
        rewrite(source / "tokenizer_config.json", json.dumps({k: v for k, v in config.items() if v is not None}))
        for suffix, content in files.items():
            (source / f"chat_template.{suffix}").write_text(content)
        return source

    named = [{"name": "default", "template": older}, {"name": "tool_use", "template": newer}]
    found = headers(
        tmp_path / "out",
        with_template("both", older, jinja=newer),
        with_template("file", None, jinja=newer),
        with_template("json beside", older, json=json.dumps({"chat_template": newer})),
        with_template("named", named),
        with_template("none", None),
    )
    templates = [{k: v for k, v in header.items() if "chat_template" in k} for header in found]
    key = "tokenizer.chat_template"
    assert templates == [
        {key: newer},
        {key: newer},
        {key: older},
        {key: older, f"{key}.tool_use": newer, "tokenizer.chat_templates": ["tool_use"]},
        {},
    ]


def test_an_id_that_stands_for_no_token_is_none(sample: Path, tmp_path: Path) -> None:
    sources = []
    for none in (-1, 10**6, None):
        source = copy_of(sample, tmp_path / f"source {none}")
        for name, change in (("config.json", {"pad_token_id": none}), ("tokenizer_config.json", {"pad_token": None})):
            rewrite(source / name, json.dumps(json.loads((source / name).read_text()) | change))
        sources.append(source)
    assert all("tokenizer.ggml.padding_token_id" not in header for header in headers(tmp_path / "out", *sources))
