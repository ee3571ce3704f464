"""``phi-bot check`` as a person and a script see it: words, JSON, exit codes."""

import json
from pathlib import Path

import pytest

from bot.checking.findings import CheckReport
from bot.cli import _main
from bot.localhub import RunningHub
from tests.checking.gguf_files import gguf, metadata
from tests.checking.test_check import FILE, FOREIGN, REPO, World
from tests.publishing.keys import key_pair
from tests.steps.test_publish import no_plots as no_plots

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture
def world(hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return World(hub, tmp_path)


def test_a_publication_that_is_what_it_says(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pem, public = key_pair(tmp_path)
    world.publish(pem)
    assert _main(["check", REPO, "--key", str(public), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "contradicted" not in out
    assert "proven  signatures" in out
    assert out.splitlines()[-1].startswith("None of this proves that the weights")


def test_one_that_is_not_ends_with_a_code_of_its_own_and_prints_all_the_same(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.publish()
    world.put(REPO, {FILE: b"evil"})
    assert _main(["check", f"{REPO}@main", "--json", "--quiet"]) == 68
    printed = capsys.readouterr()
    report = CheckReport.from_json(json.loads(printed.out))
    assert {f.about for f in report.contradicted} == {"files", "header"}
    assert printed.err.startswith(f"phi-bot: {REPO} is not what it says, or not as its original: files, header")


def test_a_strangers_words_do_not_steer_the_terminal(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J<|end|>\n::set-output::"
    file = gguf(metadata(general__license=evil, tokenizer__ggml__tokens=("<unk>", evil, "x", evil, evil)))
    world.put(FOREIGN, {"README.md": b"---\nbase_model: microsoft/Phi-9-mini\n---\n", FILE: file})
    assert _main(["check", FOREIGN, "--quiet"]) == 68
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "\n::" not in printed.out
    world.put(FOREIGN, {"a\u202e.gguf": file})  # such a name is refused with the whole repo
    assert _main(["check", FOREIGN, "--quiet"]) == 24
    assert "\u202e" not in capsys.readouterr().err


def test_what_is_wrong_with_the_command_line(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["check", "no-owner"]) == 2
    assert _main(["check", "me/../../etc"]) == 2
    assert _main(["check", "me/nothing", "--quiet"]) == 13
    (tmp_path / "key.pub").write_text("no key")
    assert _main(["check", REPO, "--key", "key.pub", "--quiet"]) == 10
    assert "holds no Ed25519 or ECDSA public key" in capsys.readouterr().err
