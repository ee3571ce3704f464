"""The name in a GGUF file's header is what the tokenizer needs, whatever a person called the model."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bot
from bot.formats.gguf.worker.naming import names
from bot.progress import Silent
from bot.toolchains.install import ensure
from bot.worker.harness import NotTaken
from tests.worker.running import copy_of, run_python

PHI_3 = ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>")
NEVER = ("<unk>", "<s>", "<|endoftext|>")
NAMES = ("my-tune", "Phi-3.5-tune", "my-phi3-tune", "PHI-3", "n-Phi3.modern-bert", "Phi-4-mini", "phi-phi33-")

ROOT = Path(bot.__file__).parents[1]
TOKENIZERS = [
    ("phi-3.5-mini", ("<|user|>", "<|end|>", "<s>"), None),
    ("phi-3.5-mini", ("<|user|>", "</s>"), False),
    ("phi-4", ("<|im_start|>", "<|im_end|>"), False),
]


@dataclass(frozen=True)
class Token:
    content: str
    rstrip: bool = False
    lstrip: bool = False


@dataclass(frozen=True)
class Tokenizer:
    """What of transformers' tokenizer decides over a name."""

    added: Sequence[Token]
    pad_token: str | None = None
    others: tuple[str, ...] = ()
    added_tokens_decoder: dict[int, Token] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "added_tokens_decoder", dict(enumerate(self.added)))

    def get_vocab(self) -> dict[str, int]:
        return {t: i for i, t in enumerate([*(t.content for t in self.added), *self.others])}


def tokens(contents: Sequence[str], *, rstrip: bool) -> list[Token]:
    return [Token(c, rstrip and c not in NEVER) for c in contents]


def drops(name: str) -> bool:
    """What llama_vocab asks of a name."""
    return "phi-3" in name.lower() or "phi3" in name.lower()


@given(
    text=st.text(max_size=20),
    parts=st.lists(st.sampled_from(["phi3", "Phi-3", "phi", "3", "-", "modern-bert", "x"])),
    strips=st.booleans(),
)
def test_every_name_suits_its_tokenizer(text: str, parts: list[str], *, strips: bool) -> None:
    model = text + "".join(parts)
    found = names(model, Tokenizer([*tokens(PHI_3, rstrip=strips), Token("[MASK]", strips)]))
    assert drops(found["general.name"]) == strips
    assert strips or "modern-bert" not in found["general.name"].lower()
    assert model in (found["general.name"].removesuffix(" (phi3)"), found.get("general.basename"))


@pytest.mark.parametrize("missing", ["</s>", "<s>", "<unk>", "<|endoftext|>"])
def test_a_vocabulary_that_llama_cpp_would_not_load_by_such_a_name_never_gets_one(missing: str) -> None:
    tokenizer = Tokenizer(tokens([t for t in PHI_3 if t != missing], rstrip=True))
    assert all(not drops(names(model, tokenizer)["general.name"]) for model in NAMES)


def test_names_that_are_right_stay_as_they_are() -> None:
    strips, keeps = Tokenizer(tokens(PHI_3, rstrip=True)), Tokenizer(tokens(PHI_3, rstrip=False))
    assert names("Phi-3.5-tune", strips) == {"general.name": "Phi-3.5-tune"}
    assert names("My-tune", strips) == {"general.name": "My-tune (phi3)"}
    assert names("My-tune", keeps) == {"general.name": "My-tune"}
    assert names("My-Phi-3-tune", keeps) == {"general.name": "My-phi 3-tune", "general.basename": "My-Phi-3-tune"}


@pytest.mark.parametrize("own", [*itertools.product([False, True], repeat=2)])
def test_tokens_that_disagree_are_refused_with_their_names(own: tuple[bool, bool]) -> None:
    added = [Token("<tool_call>", own[0]), Token("</tool_call>", own[1])]
    tokenizer = Tokenizer([*tokens(PHI_3, rstrip=True), *added])
    if all(own):
        assert names("Phi-3", tokenizer) == {"general.name": "Phi-3"}
        return
    with pytest.raises(NotTaken, match=r"drops the white space behind </s>.*keeps it behind <.*tool_call>;"):
        names("Phi-3", tokenizer)


def test_tokens_of_which_llama_cpp_keeps_white_space_cannot_drop_it() -> None:
    with pytest.raises(NotTaken, match=r"behind <s> and keeps it"):
        names("Phi-3", Tokenizer([Token(t, rstrip=t not in ("<unk>", "<|endoftext|>")) for t in PHI_3]))


def test_a_token_that_drops_white_space_before_it_is_refused() -> None:
    with pytest.raises(NotTaken, match=r"drops the white space before <tool_call>; llama\.cpp keeps it"):
        names("Phi-3", Tokenizer([*tokens(PHI_3, rstrip=False), Token("<tool_call>", lstrip=True)]))
    assert names("Phi-4", Tokenizer([Token("<|im_start|>", lstrip=True, rstrip=True)])) == {"general.name": "Phi-4"}


def test_a_token_that_only_pads_may_disagree() -> None:
    tokenizer = Tokenizer([*tokens(PHI_3, rstrip=True), Token("<pad>")], pad_token="<pad>")
    assert names("My-tune", tokenizer) == {"general.name": "My-tune (phi3)"}


# Writes the header of a GGUF file by each name, loads it in llama.cpp, and prints what is read otherwise than by the
# source's own tokenizer: texts with its special tokens, with and without white space beside them.
READ = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import llama_cpp
from bot import catalogue
from bot.records.tasks import BuildTask, Target
from bot.formats.gguf.worker.convert import read_model
from bot.formats.gguf.worker.layout import write_skeleton
from bot.worker.tokens import read_tokenizer
source, out = Path(sys.argv[2]), Path(sys.argv[3])
tokenizer = read_tokenizer(source)
texts = [f"one{a}{t}{b}two" for t in json.loads(sys.argv[4]) for a in ("", " ") for b in ("", " ", "\\n\\n", "\\t ")]
for name in sys.argv[5:]:
    task = BuildTask(source=str(source), model_name=name, targets=(), scratch=str(out), threads=1)
    write_skeleton(read_model(task, "BF16", out / "skeleton"), out / "skeleton")
    model = llama_cpp.Llama(str(out / "skeleton"), vocab_only=True, verbose=False)
    got = [model.tokenize(t.encode(), add_bos=False, special=True) for t in texts]
    expected = [tokenizer.encode(t, add_special_tokens=False) for t in texts]
    print(json.dumps([name, [[t, g, e] for t, g, e in zip(texts, got, expected) if g != e]]))
"""


@pytest.mark.toolchain
@pytest.mark.parametrize(("family", "tokens", "rstrip"), TOKENIZERS)
def test_every_tokenizer_is_read_right_under_every_name(
    sample_of: Callable[[str], Path], tmp_path: Path, family: str, tokens: tuple[str, ...], rstrip: bool | None
) -> None:
    source = copy_of(sample_of(family), tmp_path / "source")
    if rstrip is not None:
        flag_all(source, rstrip=rstrip)
    out = tmp_path / "out"
    out.mkdir()
    read = run_python(ensure("gguf", Silent()), READ, ROOT, source, out, json.dumps(tokens), *NAMES)
    found = [json.loads(line) for line in read.splitlines() if line.startswith("[")]
    assert found == [[name, []] for name in NAMES]


def flag_all(source: Path, *, rstrip: bool) -> None:
    """Have all special tokens of a checkpoint drop the white space behind them, or none."""
    for name, key in (("tokenizer.json", "added_tokens"), ("tokenizer_config.json", "added_tokens_decoder")):
        path = source / name
        content = json.loads(path.read_text())
        added = content[key]
        for token in added if isinstance(added, list) else added.values():
            token |= {"rstrip": rstrip and token["content"] not in NEVER, "lstrip": False}
        path.unlink()
        path.write_text(json.dumps(content))
