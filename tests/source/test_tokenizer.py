import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import DamagedTokenizerError
from bot.source.tokenizer import check_tokenizer
from tests.source.models import files, sentencepiece, write


def test_either_kind_of_tokenizer_will_do(tmp_path: Path) -> None:
    check_tokenizer(write(tmp_path / "both", files()))
    check_tokenizer(write(tmp_path / "fast", files(tokenizer__model=None)))
    check_tokenizer(write(tmp_path / "sentencepiece", files(tokenizer__json=None)))


def test_no_tokenizer_is_said_so(tmp_path: Path) -> None:
    write(tmp_path, files(tokenizer__json=None, tokenizer__model=None))
    with pytest.raises(DamagedTokenizerError, match=r"neither tokenizer.json nor tokenizer.model") as caught:
        check_tokenizer(tmp_path)
    assert caught.value.exit_code == 26


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b'{"model": {"vocab": {}}}'),
        ("tokenizer.json", b'{"model": []}'),
        ("tokenizer.model", b""),
        ("tokenizer.model", sentencepiece()[:-1]),
        ("tokenizer.model", b"\x0a\x00"),
        ("tokenizer.model", b"\x0b"),
        ("tokenizer.model", b"\x80" * 20),
        ("tokenizer.model", b"version https://git-lfs.github.com/spec/v1\n"),
        ("tokenizer_config.json", b"[]"),
        ("special_tokens_map.json", b"\xff"),
        ("added_tokens.json", b"null"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    write(tmp_path, files() | {name: content})
    with pytest.raises(DamagedTokenizerError, match=f"^{name} "):
        check_tokenizer(tmp_path)


@given(content=st.binary(max_size=60) | st.binary(max_size=20).map(lambda b: sentencepiece() + b))
def test_random_bytes_never_crash_the_check(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = write(tmp_path_factory.getbasetemp() / "tokenizer", {"tokenizer.model": content})
    with contextlib.suppress(DamagedTokenizerError):
        check_tokenizer(folder)
