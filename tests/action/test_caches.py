"""Which toolchains GitHub's cache keeps, and under which key."""

import sys
from pathlib import Path

import pytest

from bot import toolchains
from bot.action import caches
from bot.action.inputs import read
from bot.errors import UnknownVariantError


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHI_BOT_CACHE", str(tmp_path / "cache"))
    return {"GITHUB_WORKSPACE": str(tmp_path), "RUNNER_TEMP": str(tmp_path)}


def needed(environ: dict[str, str], **inputs: str) -> tuple[str, ...]:
    environ = environ | {f"INPUT_{name.upper()}": value for name, value in inputs.items()}
    return caches.needed_toolchains(read(environ), environ)


def test_a_build_needs_the_toolchains_of_its_formats_and_that_of_the_original(environ: dict[str, str]) -> None:
    assert needed(environ, variants="gguf/q4_k_m,gguf/q8_0") == ("gguf", "reference")
    assert needed(environ, variants="mlx/4bit gguf", publish="stage") == ("gguf", "mlx", "reference")
    assert needed(environ) == ("gguf", "mlx", "onnx", "openvino", "reference")


def test_variants_of_the_configuration_count_where_none_are_given(environ: dict[str, str]) -> None:
    Path("phi-bot.toml").write_text('[build]\nvariants = ["onnx"]\n')
    assert needed(environ) == ("onnx", "reference")


@pytest.mark.parametrize(
    "inputs",
    [
        {"publish": "yes"},
        {"publish": "yes", "cache": "true"},
        {"cache": "false"},
        {"dry_run": "true"},
        {"command": "plan"},
        {"command": "promote", "cache": "true"},
        {"command": "conclude", "pull_request": "a/b#1", "cache": "true"},
        {"command": "propose", "reports": ".", "head": "a" * 40, "cache": "true"},
    ],
    ids=lambda inputs: " ".join(f"{k}={v}" for k, v in inputs.items()),
)
def test_nothing_is_cached_where_nothing_is_built_or_something_is_published(
    environ: dict[str, str], inputs: dict[str, str]
) -> None:
    assert needed(environ, **inputs) == ()
    assert caches.key(()) == ""


def test_a_dry_run_of_the_configuration_needs_nothing_either(environ: dict[str, str]) -> None:
    Path("phi-bot.toml").write_text("[run]\ndry_run = true\n")
    assert needed(environ) == ()
    assert needed(environ, dry_run="false", variants="gguf") == ("gguf", "reference")


def test_an_unknown_variant_is_said(environ: dict[str, str]) -> None:
    with pytest.raises(UnknownVariantError):
        needed(environ, variants="gguf/q9")


@pytest.mark.usefixtures("environ")
def test_a_key_depends_on_the_toolchains_and_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("gguf", "reference")
    key = caches.key(names)
    assert key == caches.key(names)
    assert key != caches.key(("gguf",))
    with monkeypatch.context() as changed:
        changed.setattr(sys, "version", "3.12.99")
        assert caches.key(names) != key
    with monkeypatch.context() as changed:
        changed.setenv("PHI_BOT_CACHE", "/elsewhere")
        assert caches.key(names) != key
    with monkeypatch.context() as changed:
        changed.setattr(toolchains, "install_digest", lambda name: "0" * 64)
        assert caches.key(names) != key


def test_an_entry_holds_the_folders_of_its_toolchains(environ: dict[str, str]) -> None:
    first, second = caches.paths(("gguf", "mlx")).splitlines()
    assert Path(first).parent == Path(environ["RUNNER_TEMP"]) / "cache" / "toolchains"
    assert (Path(first).name.split("-")[0], Path(second).name.split("-")[0]) == ("gguf", "mlx")


def test_names_from_the_step_before_are_of_toolchains_or_refused() -> None:
    assert caches.names_of('["gguf", "mlx"]') == ("gguf", "mlx")
    with pytest.raises(ValueError, match="names no toolchains"):
        caches.names_of('["../x"]')
