"""What a tokenizer may cost is bounded by its parts, before a library reads any of them."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import SourceError
from bot.records.artifacts import Json
from bot.source import bounds
from bot.source.tokenizer import check_tokenizer
from tests.source.models import files, sentencepiece, write

# What docs/security.md says that checking any tokenizer takes at most.
MEMORY = 700_000_000


def fast(**parts: Json) -> bytes:
    """Return a tokenizer.json with some parts."""
    return json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}} | parts).encode()


def model(**parts: Json) -> bytes:
    """Return a tokenizer.json with some parts of its model."""
    return fast(model={"type": "BPE", "vocab": {"a": 0}, "merges": []} | parts)


def config(**keys: Json) -> bytes:
    """Return an object, as all other files are."""
    return json.dumps(keys).encode()


def numbered(count: int, length: int = 1) -> list[str]:
    """Return so many texts, each of so many characters."""
    return [f"{i:0{length}d}" for i in range(count)]


def split(expression: str) -> bytes:
    """Return a tokenizer.json that splits a text by a regular expression."""
    return fast(pre_tokenizer={"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated"})


def sequence(kind: str, **options: Json) -> Callable[[int], bytes]:
    """Return what makes a tokenizer.json with so many steps of a kind in its normalizer."""
    return lambda count: fast(
        normalizer={"type": "Sequence", "normalizers": [{"type": kind} | options for _ in range(count - 1)]}
    )


def template(length: int) -> str:
    """Return a chat template of so many characters."""
    return "{{ messages }}" + "x" * (length - 14)


# A file, what makes it of a number, the largest number that is taken, and what is said of the next.
EDGES: list[tuple[str, Callable[[int], bytes], int, str]] = [
    ("tokenizer.json", lambda n: model(vocab={"x" * n: 0}), bounds.TOKEN, "characters in model.vocab: 'xxx"),
    ("tokenizer.json", lambda n: model(vocab=[["x" * n, 0.5]]), bounds.TOKEN, "characters in model.vocab: 'xxx"),
    ("tokenizer.json", lambda n: model(vocab=dict.fromkeys(numbered(n), 0)), bounds.TOKENS, "tokens in model.vocab"),
    ("tokenizer.json", lambda n: model(merges=["x" * n]), 2 * bounds.TOKEN + 1, "characters in model.merges: 'xx"),
    ("tokenizer.json", lambda n: model(merges=[["x" * n, "y"]]), 2 * bounds.TOKEN + 1, "characters in model.merges: "),
    ("tokenizer.json", lambda n: model(merges=["a b"] * n), bounds.MERGES, "merges in model.merges"),
    ("tokenizer.json", lambda n: model(unk_token="x" * n), bounds.TOKEN, "characters in model.unk_token"),
    ("tokenizer.json", lambda n: fast(added_tokens=[{"content": "x" * n}]), bounds.TOKEN, "characters in added_tokens"),
    ("tokenizer.json", lambda n: fast(added_tokens=[{}] * n), bounds.ADDED, "tokens in added_tokens"),
    ("tokenizer.json", lambda n: fast(added_tokens=numbered(n, 1000)), 1000, "characters in added_tokens"),
    ("tokenizer.json", sequence("NFC"), bounds.STEPS, "steps in normalizer"),
    ("tokenizer.json", sequence("ByteLevel"), 10, "a text more than 1000 times longer"),
    ("tokenizer.json", sequence("Replace", pattern={"String": "a"}, content="aa"), 10, "1000 times longer"),
    ("tokenizer.json", sequence("Replace", pattern={"Regex": "."}, content="aaa"), 7, "1000 times longer"),
    ("tokenizer.json", lambda n: split("x" * n), bounds.EXPRESSION, "characters in pre_tokenizer.pattern.Regex"),
    ("tokenizer.json", lambda n: split("(" * n + ")" * n), bounds.NESTING, "nested groups in pre_tok"),
    ("tokenizer.json", lambda n: split(f"(x{{1,{n}}}){{1000}}"), 100, "repetitions in pre_tokenizer.pattern.Regex"),
    ("tokenizer.json", lambda n: fast(padding={"strategy": {"Fixed": n}}), bounds.PADDING, "in padding.strategy.Fixed"),
    ("tokenizer.json", lambda n: fast(version="x" * n), 10_000, "characters in version"),
    ("tokenizer.json", lambda n: fast(decoder={"x" * n: 1}), bounds.TOKEN, "characters in decoder"),
    ("tokenizer_config.json", lambda n: config(bos_token="x" * n), bounds.TOKEN, "characters in bos_token"),
    (
        "tokenizer_config.json",
        lambda n: config(pad_token={"content": "x" * n}),
        bounds.TOKEN,
        "characters in pad_token",
    ),
    ("tokenizer_config.json", lambda n: config(image_token="x" * n), bounds.TOKEN, "characters in image_token"),
    ("tokenizer_config.json", lambda n: config(extra_special_tokens=numbered(n)), bounds.ADDED, "in extra_special_tok"),
    ("tokenizer_config.json", lambda n: config(extra_special_tokens={"a_token": "x" * n}), bounds.TOKEN, "'xxx"),
    ("tokenizer_config.json", lambda n: config(chat_template=template(n)), bounds.TEMPLATE, "in chat_template"),
    (
        "tokenizer_config.json",
        lambda n: config(chat_template=[{"name": "default", "template": template(n)}]),
        bounds.TEMPLATE,
        "characters in chat_template",
    ),
    (
        "tokenizer_config.json",
        lambda n: config(chat_template=[{"name": i, "template": "x"} for i in numbered(n)]),
        bounds.TEMPLATES,
        "templates in chat_template",
    ),
    (
        "tokenizer_config.json",
        lambda n: config(added_tokens_decoder={i: {"content": "x"} for i in numbered(n)}),
        bounds.ADDED,
        "tokens in added_tokens_decoder",
    ),
    ("tokenizer_config.json", lambda n: config(tokenizer_class="x" * n), 10_000, "characters in tokenizer_class"),
    ("tokenizer_config.json", lambda n: config(a=[0] * (n - 2)), 10_000, "more than 10000 values"),
    ("special_tokens_map.json", lambda n: config(eos_token="x" * n), bounds.TOKEN, "characters in eos_token"),
    (
        "special_tokens_map.json",
        lambda n: config(additional_special_tokens=["x" * n]),
        bounds.TOKEN,
        "in additional_s",
    ),
    ("added_tokens.json", lambda n: config(**{"x" * n: 1}), bounds.TOKEN, "characters in the list of tokens"),
    ("added_tokens.json", lambda n: config(**dict.fromkeys(numbered(n), 1)), bounds.ADDED, "tokens in the list"),
    ("vocab.json", lambda n: config(**{"x" * n: 1}), bounds.TOKEN, "characters in the vocabulary"),
    ("merges.txt", lambda n: b"x" * n + b"\na b\n", 8 * bounds.TOKEN, "bytes in a line"),
    ("merges.txt", lambda n: b"a b\n" * n, bounds.MERGES, "lines"),
    ("chat_template.json", lambda n: config(chat_template=template(n)), bounds.TEMPLATE, "in chat_template"),
    ("chat_template.jinja", lambda n: template(n).encode(), bounds.TEMPLATE, "characters in the template"),
    ("generation_config.json", lambda n: config(eos_token_id=[1] * (n - 2)), 10_000, "more than 10000 values"),
    ("generation_config.json", lambda n: config(_from_model_config="x" * n), 10_000, "in _from_model_config"),
    (
        "tokenizer.model",
        lambda n: sentencepiece() + field(3, b"x" * n),
        2_000_000,
        "bytes in a part beside",
    ),
    ("tokenizer.model", lambda n: field(1, field(1, b"x" * (n - 3))), 4 * bounds.TOKEN, "bytes in piece 1"),
    ("tokenizer.model", lambda n: field(1, field(1, b"x")) * n, bounds.TOKENS, "pieces"),
]


def field(number: int, content: bytes) -> bytes:
    """Return a field of a Protocol Buffers message."""
    length, left = b"", len(content)
    while left > 0x7F:
        length, left = length + bytes([left & 0x7F | 0x80]), left >> 7
    return bytes([number << 3 | 2]) + length + bytes([left]) + content


@pytest.mark.large
@pytest.mark.parametrize(("name", "make", "most", "words"), EDGES, ids=[f"{n}: {w}" for n, _, _, w in EDGES])
def test_a_part_is_taken_up_to_its_bound_and_named_past_it(
    tmp_path: Path, name: str, make: Callable[[int], bytes], most: int, words: str
) -> None:
    check_tokenizer(write(tmp_path, files() | {name: make(most)}))
    write(tmp_path, {name: make(most + 1)})
    with pytest.raises(SourceError) as caught:
        check_tokenizer(tmp_path)
    assert caught.value.message.startswith(f"{name} has ")
    assert words in caught.value.message
    assert "more than" in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.large
def test_a_tokenizer_as_large_as_any_of_a_phi_is_far_inside(tmp_path: Path) -> None:
    """200,064 tokens of up to 128 characters, their merges as lists, and the pipeline of Phi-4-mini."""
    lengths = [128 if i % 1000 == 0 else i % 16 for i in range(200_064)]
    vocabulary = {f"Ġ{i:06d}" + "x" * n: i for i, n in enumerate(lengths)}
    merges = [[f"Ġ{i:06d}", "x" * n] for i, n in enumerate(lengths)]
    pattern = (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    )
    pattern += r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    steps = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"},
        {"type": "ByteLevel", "use_regex": False},
    ]
    data = fast(
        model={"type": "BPE", "vocab": vocabulary, "merges": merges},
        added_tokens=[{"id": 200_000 + i, "content": f"<|dummy_{i}|>", "special": True} for i in range(64)],
        pre_tokenizer={"type": "Sequence", "pretokenizers": steps},
        post_processor={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
    )
    assert len(data) < bounds.FILE_BYTES / 3
    assert data.count(b"[") + data.count(b"{") < bounds.LISTS / 3
    check_tokenizer(write(tmp_path, files(tokenizer__json=data)))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "pattern", "content", "Regex", "vocab", "String"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)
_KEYS = ["model", "normalizer", "added_tokens", "padding", "chat_template", "bos_token", "added_tokens_decoder", "x"]


@given(
    name=st.sampled_from(["tokenizer.json", "tokenizer_config.json", "vocab.json", "generation_config.json"]),
    value=st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=4),
)
def test_whatever_is_in_a_file_the_check_does_not_fail_of_it(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: Json
) -> None:
    folder = write(tmp_path_factory.getbasetemp() / "any", files() | {name: json.dumps(value).encode()})
    with suppress(SourceError):
        check_tokenizer(folder)
    (folder / name).unlink()


# What is costly to read: each is as large as a file may be, or has as much in it.
COSTLY: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a token": ("tokenizer_config.json", lambda: config(bos_token="x" * 49_000_000)),
    "a token of wide characters": ("tokenizer.json", lambda: b'{"a":"' + b"x" * 48_000_000 + "😀".encode() + b'"}'),
    "lists": ("tokenizer.json", lambda: b'{"a":[' + b",".join([b"[1]"] * 999_990) + b"]}"),
    "objects": ("tokenizer.json", lambda: b'{"a":[' + b",".join([b'{"a":0}'] * 999_990) + b"]}"),
    "more lists": ("tokenizer.json", lambda: b'{"a":[' + b",".join([b"[]"] * 16_000_000) + b"]}"),
    "texts": ("tokenizer_config.json", lambda: b'{"a":[' + b",".join([b'"abcdef"'] * 2_999_990) + b"]}"),
    "numbers": ("generation_config.json", lambda: b'{"a":[' + b",".join([b"0.12345"] * 2_999_990) + b"]}"),
    "steps": ("tokenizer.json", lambda: sequence("NFC")(900_000)),
    "pieces": ("tokenizer.model", lambda: b"\x0a\x03\x0a\x01x" * 9_000_000),
    "nothing": ("tokenizer.model", lambda: b"\x10\x00" * 24_000_000),
    "lines": ("merges.txt", lambda: b"\n" * 49_000_000),
}
_CHILD = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))
from pathlib import Path
from bot.errors import SourceError
from bot.source.tokenizer import check_tokenizer
try:
    check_tokenizer(Path(sys.argv[1]))
except SourceError as error:
    print(error.message)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak if sys.platform == "darwin" else peak << 10, time.process_time())
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="limits of memory are of POSIX")
@pytest.mark.parametrize("kind", COSTLY)
def test_checking_a_tokenizer_takes_no_more_memory_than_is_said(tmp_path: Path, kind: str) -> None:
    name, make = COSTLY[kind]
    write(tmp_path, files() | {name: make()})
    command = [sys.executable, "-c", _CHILD, str(tmp_path)]
    # Through a shell: what a process had resident when it started another counts as that one's largest size.
    ended = subprocess.run(["sh", "-c", '"$@"', "sh", *command], capture_output=True, text=True, check=True)
    message, figures = ended.stdout.strip().rsplit("\n", 1)
    print(kind, figures)
    assert message.startswith(f"{name} ")
    assert int(figures.split()[0]) < MEMORY
