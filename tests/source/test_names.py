from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import UnsafeFileNameError
from bot.source.names import check_name, is_wanted, safe_name


@pytest.mark.parametrize(
    "path", ["config.json", "onnx/cpu int4/model.onnx", "模型.safetensors", "a..b", ".gitattributes"]
)
def test_ordinary_names_pass(path: str) -> None:
    assert check_name(path, where="a/b") == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "../config.json",
        "a/../../config.json",
        "/etc/passwd",
        "a//b",
        "C:\\Windows\\win.ini",
        "C:model.safetensors",
        "..\\config.json",
        "model.safetensors:stream",
        "config.json\n",
        "a\x00b",
        "\x1b[2Jconfig.json",
        "gpj.\u202enosj.gifnoc",
        "half\ud800",
        "CON",
        "aux.safetensors",
        "a/nul.txt",
        "config.json.",
        "config.json ",
        "x" * 256,
        "é" * 128,
    ],
)
def test_names_that_could_leave_the_folder_or_mislead_are_refused(path: str) -> None:
    with pytest.raises(UnsafeFileNameError, match="a/b holds a file named") as caught:
        check_name(path, where="a/b")
    assert caught.value.exit_code == 24
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()


@given(st.text() | st.text(alphabet="./\\:aC\x00 "))
def test_whatever_passes_stays_in_its_folder_on_every_system(path: str) -> None:
    try:
        check_name(path, where="a/b")
    except UnsafeFileNameError:
        return
    for kind in (PurePosixPath, PureWindowsPath):
        joined = kind("folder", path)
        assert joined.parts[0] == "folder"
        assert len(joined.parts) > 1
        assert ".." not in joined.parts
        assert joined.as_posix() == f"folder/{path}"


def test_only_content_and_licences_are_wanted() -> None:
    listing = [
        "model.safetensors",
        "config.json",
        "LICENSE",
        "modeling_phi3.py",
        "pytorch_model.bin",
        "onnx/model.onnx",
    ]
    assert [p for p in listing if is_wanted(p)] == ["model.safetensors", "config.json", "LICENSE"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Phi-3.5-mini-instruct", "Phi-3.5-mini-instruct"),
        ("my model (v2)", "my-model-v2"),
        ("..", "model"),
        ("模型", "model"),
        ("a--b..c.git", "a-b.c"),
    ],
)
def test_a_folder_name_becomes_one_that_the_hub_takes(name: str, expected: str) -> None:
    assert safe_name(name) == expected


@given(st.text())
def test_every_folder_name_becomes_one_that_the_hub_takes(name: str) -> None:
    from huggingface_hub.utils._validators import validate_repo_id

    validate_repo_id(f"local/{safe_name(name)}")
