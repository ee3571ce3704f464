import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import MissingConfigError, RemoteCodeError
from bot.source.config import check_config, read_config, without_code
from bot.source.meaning import architecture
from bot.source.strict import parse_object
from tests.source.models import CONFIG


def test_no_config_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(MissingConfigError, match=r"has no config.json") as caught:
        read_config(tmp_path)
    assert caught.value.exit_code == 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\x80\x04]q\x00.", "is not JSON"),
        (b"[1]", "is not a JSON object but a list"),
        (b'"config"', "is not a JSON object but a str"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "is nested more than 64 levels deep"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b'{"a": 1, "b": {"a": 1, "c": 2, "c": 2}}', "a key is given twice: 'c'"),
        (b'{"a": [NaN]}', "NaN is not a number"),
        (b'{"a": Infinity}', "Infinity is not a number"),
        (b'{"a": -Infinity}', "-Infinity is not a number"),
        (b'{"a": 1e999}', "1e999 is too large for a number"),
        (b"\xef\xbb\xbf" * 2 + b"{}", "is not JSON"),
        (b'{"a": "' + b"x" * 1_000_000 + b'"}', "more than 1000000"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_a_config_that_is_not_a_json_object_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(MissingConfigError, match=message):
        read_config(tmp_path)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'\xef\xbb\xbf{"hidden_size": 4}')
    assert read_config(tmp_path) == {"hidden_size": 4}


@given(st.binary(max_size=100))
def test_random_bytes_give_an_object_or_a_value_error(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_object(content), dict)


def test_the_architecture_is_the_first_that_is_named() -> None:
    assert architecture(CONFIG) == "Phi3ForCausalLM"


@pytest.mark.parametrize("names", [None, [], "Phi3ForCausalLM", [3], {}])
def test_a_config_may_name_no_architecture(names: Any) -> None:
    assert architecture({"architectures": names}) == ""


def test_a_phi_that_asks_for_its_own_code_is_built_without_it() -> None:
    config, (note,) = check_config(CONFIG, where="a/b")
    assert config == CONFIG
    assert "built without it" in note
    bare = {k: v for k, v in CONFIG.items() if k != "auto_map"}
    assert check_config(bare, where="a/b") == (bare, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["Phi3SmallForCausalLM"], "model_type": "phi3small"},
        {"architectures": ["Phi3ForCausalLM"], "model_type": "phi4flash"},
        {"architectures": None, "model_type": "phi4flash"},
    ],
)
def test_a_model_that_only_its_own_code_can_read_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RemoteCodeError, match="a/b asks for code from its repo") as caught:
        check_config(CONFIG | changes, where="a/b")
    assert caught.value.exit_code == 25
    check_config({k: v for k, v in (CONFIG | changes).items() if k != "auto_map"}, where="a/b")


def test_code_that_is_asked_for_deep_inside_counts_too() -> None:
    config = {"model_type": "other", "text_config": [{"auto_map": {"AutoConfig": "x.Y"}}]}
    with pytest.raises(RemoteCodeError):
        check_config(config, where="a/b")
    assert without_code(config) == {"model_type": "other", "text_config": [{}]}


def test_everything_but_code_and_foreign_paths_stays_as_it_is() -> None:
    config = {
        "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.02], "long_factor": [1e-05]},
        "auto_map": {"AutoTokenizer": "Xenova/gpt-4o"},
        "trust_remote_code": True,
        "custom_pipelines": {},
        "code_revision": "main",
        "tokenizer_file": "/home/someone/tokenizer.json",
        "eos_token": None,
    }
    assert without_code(config) == {"rope_scaling": config["rope_scaling"], "eos_token": None}
    assert list(without_code(config)) == ["rope_scaling", "eos_token"]
