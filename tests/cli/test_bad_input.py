"""Bad input: one clear line, what to do, an exit code of its own, and nothing half-made."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot import errors
from bot.localhub import RunningHub
from bot.source import check
from tests.source import models

pytestmark = pytest.mark.process

MODEL = "microsoft/Phi-tiny"


def phi_bot(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "GITHUB_"))}
    return subprocess.run(
        [sys.executable, "-m", "bot.cli", *arguments],
        cwd=folder,
        env=clean | {"HF_HOME": str(folder / "hf"), "PHI_BOT_CACHE": str(folder / "cache")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def model(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def assert_refused(done: subprocess.CompletedProcess[str], error: type[errors.PhiBotError], words: str) -> None:
    """One line that says what is wrong, one that says what to do, and the error's exit code."""
    said = done.stderr + done.stdout
    assert done.returncode == error.exit_code, said
    assert words in said
    assert "Traceback" not in said


def assert_nothing_made(folder: Path) -> None:
    for name in ("artifacts", "staged"):
        assert not (folder / "cache" / "work" / name).exists()
    assert not (folder / "cache" / "toolchains").exists(), "a toolchain was installed for nothing"


TRUNCATED = models.files()["model.safetensors"][:-3]
BAD_MODELS = [
    ("no config", models.files(config__json=None), errors.MissingConfigError, "config.json"),
    ("config is a list", models.files(config__json=b"[]"), errors.MissingConfigError, "config.json"),
    (
        "foreign architecture",
        models.files(config__json=b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}'),
        errors.UnsupportedArchitectureError,
        "LlamaForCausalLM",
    ),
    (
        "architecture with its own code",
        models.files(
            config__json=b'{"architectures": ["EvilForCausalLM"], "model_type": "evil",'
            b' "auto_map": {"AutoModelForCausalLM": "evil.Evil"}}'
        ),
        errors.RemoteCodeError,
        "code",
    ),
    ("truncated weights", models.files(model__safetensors=TRUNCATED), errors.DamagedWeightsError, "model.safetensors"),
    (
        "missing shard",
        {k: v for k, v in models.sharded().items() if k != "model-00002-of-00002.safetensors"},
        errors.DamagedWeightsError,
        "model-00002-of-00002.safetensors",
    ),
    (
        "pickles only",
        models.files(model__safetensors=None) | {"pytorch_model.bin": b"\x80\x04."},
        errors.PicklesOnlyError,
        "pytorch_model.bin",
    ),
    (
        "no tokenizer",
        models.files(tokenizer__json=None, tokenizer__model=None),
        errors.DamagedTokenizerError,
        "tokenizer",
    ),
    ("broken tokenizer", models.files(tokenizer__json=b"{"), errors.DamagedTokenizerError, "tokenizer.json"),
]


@pytest.mark.parametrize(("files", "error", "words"), [m[1:] for m in BAD_MODELS], ids=[m[0] for m in BAD_MODELS])
def test_a_bad_model_in_a_folder(
    tmp_path: Path, files: dict[str, bytes], error: type[errors.PhiBotError], words: str
) -> None:
    folder = model(tmp_path / "model", files)
    assert_refused(phi_bot(tmp_path, "run", str(folder)), error, words)
    assert_nothing_made(tmp_path)


@pytest.mark.parametrize(("files", "error", "words"), [m[1:] for m in BAD_MODELS], ids=[m[0] for m in BAD_MODELS])
def test_a_bad_model_on_the_hub(
    tmp_path: Path, hub: RunningHub, files: dict[str, bytes], error: type[errors.PhiBotError], words: str
) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo(MODEL)
    api.upload_folder(repo_id=MODEL, folder_path=model(tmp_path / "model", files))
    done = phi_bot(tmp_path, "run", MODEL, "--namespace", "demo", HF_ENDPOINT=hub.url, HF_TOKEN=hub.token)
    assert_refused(done, error, words)
    assert_nothing_made(tmp_path)
    assert [m.id for m in api.list_models(author="demo")] == []


def test_the_good_model_passes_the_same_checks(tmp_path: Path) -> None:
    check(model(tmp_path / "model", models.files()))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["run", "./model", "-v", "gguf/q4_k_mm"], errors.UnknownVariantError, "Did you mean gguf/q4_k_m"),
        (["run", "./nowhere"], errors.UnknownModelError, "nowhere"),
        (["run", "just-a-name"], errors.UnknownModelError, "owner/name"),
        (["verify", "./model"], errors.RecordError, "build.json"),
        (["publish", "nothing.json"], errors.RecordError, "nothing.json"),
        (["build", "plan.json"], errors.RecordError, "plan.json"),
        (["run", "--config", "no.toml"], errors.ConfigError, "no.toml"),
        (["run", "--endpoint", "http://example.com"], errors.ConfigError, "--endpoint"),
        (["run", "--namespace", "no/slash"], errors.ConfigError, "--namespace"),
        (["sample", "./model"], errors.ConfigError, "not empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_argument(tmp_path: Path, arguments: list[str], error: type[errors.PhiBotError], words: str) -> None:
    model(tmp_path / "model", models.files())
    assert_refused(phi_bot(tmp_path, *arguments, HF_ENDPOINT="http://127.0.0.1:9"), error, words)
    assert_nothing_made(tmp_path)


def test_an_unknown_key_of_the_configuration_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "phi-bot.toml").write_text('[publish]\nnamespace = "me"\nprivat = true\n')
    done = phi_bot(tmp_path, "watch")
    assert_refused(done, errors.ConfigError, "phi-bot.toml")
    assert "privat" in done.stderr
    assert "3" in done.stderr
    assert "private" in done.stderr


def test_an_unknown_command_shows_the_usage(tmp_path: Path) -> None:
    done = phi_bot(tmp_path, "convert")
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_an_unknown_model_and_an_unknown_revision(tmp_path: Path, hub: RunningHub) -> None:
    done = phi_bot(tmp_path, "run", "microsoft/none", HF_ENDPOINT=hub.url)
    assert_refused(done, errors.UnknownModelError, "microsoft/none")
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo(MODEL)
    api.upload_folder(repo_id=MODEL, folder_path=model(tmp_path / "model", models.files()))
    done = phi_bot(tmp_path, "run", f"{MODEL}@v9", HF_ENDPOINT=hub.url)
    assert_refused(done, errors.UnknownRevisionError, "v9")


def test_a_wrong_token_and_a_hub_that_is_not_there(tmp_path: Path, hub: RunningHub) -> None:
    done = phi_bot(tmp_path, "run", MODEL, HF_ENDPOINT=hub.url, HF_TOKEN="hf_wrong")
    assert_refused(done, errors.TokenError, "token")
    assert "hf_wrong" not in done.stderr + done.stdout
    done = phi_bot(tmp_path, "run", MODEL, HF_ENDPOINT="http://127.0.0.1:9")
    assert_refused(done, errors.HubUnreachableError, "127.0.0.1:9")


def test_a_missing_or_wrong_token_is_said_before_anything_is_built(tmp_path: Path, hub: RunningHub) -> None:
    folder = model(tmp_path / "model", models.files())
    for token in ({}, {"HF_TOKEN": "hf_wrong"}):
        arguments = ("run", str(folder), "-v", "gguf/q8_0", "--namespace", "me")
        assert_refused(phi_bot(tmp_path, *arguments, HF_ENDPOINT=hub.url, **token), errors.TokenError, "token")
        assert_nothing_made(tmp_path)


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(tmp_path: Path) -> None:
    """The source is sparse: it claims 100 TB of weights, which no estimate fits on this disk."""
    folder = model(tmp_path / "model", models.files())
    release = json.loads(phi_bot(tmp_path, "plan", str(folder), "-v", "gguf/q8_0", "--json").stdout)
    estimate = release["jobs"][0]["estimate"]
    estimate["output"] = 10**17
    (tmp_path / "plan.json").write_text(json.dumps(release))
    done = phi_bot(tmp_path, "build", "plan.json")
    assert_refused(done, errors.DiskTooSmallError, "100000.0 TB")
    assert_nothing_made(tmp_path)


def test_a_machine_without_a_compiler(tmp_path: Path) -> None:
    folder = model(tmp_path / "model", models.files())
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("git", "uname"):
        found = shutil.which(tool)
        if found:
            (bare / tool).symlink_to(found)
    done = phi_bot(tmp_path, "run", str(folder), "-v", "gguf/q8_0", PATH=str(bare), CC="", CXX="")
    assert_refused(done, errors.NoCompilerError, "compiler")
