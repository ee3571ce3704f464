"""phi-bot comment, against a GitHub on this machine; and what phi-bot compare does without building anything."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bot.cli import cli
from bot.errors import AdapterError
from bot.github import client
from bot.reconvert.records import Comparison
from tests.github_server import GitHub, serve
from tests.page_reader import ROOT
from tests.reconvert.examples import FULL
from tests.reconvert.trees import Q4_K_M, change, checkout
from tests.source import adapters, models


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    monkeypatch.setattr(client, "_PAUSE", 0.0)
    with serve() as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.server
def test_the_one_comment_is_kept_up_to_date(github: GitHub, tmp_path: Path) -> None:
    file = tmp_path / "comparison.json"
    file.write_text(json.dumps(FULL.to_json()))
    address = run("comment", str(file), "--pull", "o/r#7")
    file.write_text(json.dumps(Comparison(version=1, kind="code").to_json()))
    assert run("comment", str(file), "--pull", "o/r#7") == address
    (comment,) = github.comments[7]
    assert "Affects nothing" in comment["body"]


def test_a_dry_run_prints_the_comment(tmp_path: Path) -> None:
    file = tmp_path / "comparison.json"
    file.write_text(json.dumps(FULL.to_json()))
    assert run("comment", str(file), "--pull", "o/r#7", "--dry-run").startswith("### phi-bot: what this changes")


@pytest.mark.parametrize("pull", ["o/r", "o/r#", "o/r#x", "o/r/s#1", "#1", "o/r#\u0661"])
def test_a_pull_request_is_named_whole(tmp_path: Path, pull: str) -> None:
    file = tmp_path / "comparison.json"
    file.write_text(json.dumps(FULL.to_json()))
    done = CliRunner().invoke(cli, ["comment", str(file), "--pull", pull])
    assert done.exit_code == 2
    assert "OWNER/REPO#NUMBER" in str(done.exception) or "OWNER/REPO#NUMBER" in done.output


@pytest.mark.process
def test_a_dry_run_of_comparing_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = checkout(tmp_path / "head")
    change(head, "bot/formats/gguf/variants.toml", Q4_K_M, 'options = { ftype = "Q4_K_S", more = 1 }')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    sides = ("--base", str(ROOT), "--head", str(head))
    out = run("compare", *sides, "--work", "work", "--out", "out", "--dry-run", "--quiet")
    assert "Everything published of one variant is built anew." in out
    assert (tmp_path / "summary.md").read_text().strip() == (tmp_path / "out" / "comparison.md").read_text().strip()
    found = Comparison.from_json(json.loads((tmp_path / "out" / "comparison.json").read_text()))
    assert [(c.what, c.name) for c in found.changes] == [("recipe", "gguf/q4_k_m")]
    assert found.rows == ()
    assert not (tmp_path / "work").exists()


def test_an_equal_model_affects_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for side in ("base", "head"):
        models.write(tmp_path / side / "model", models.files())
    (tmp_path / "head" / "model" / "README.md").write_text("# Another card\n")
    sides = ("--base", "base", "--head", "head", "--model", "model")
    assert "the model is the same" in run("compare", *sides, "--work", "work", "--quiet")


@pytest.mark.parametrize("beside", [(), ("config.json",)], ids=["alone", "with its base's config"])
def test_an_adapter_is_not_compared_and_why_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    models.write(tmp_path / "base" / "model", models.files())
    own = adapters.adapter_files() | {name: models.files()[name] for name in beside}
    models.write(tmp_path / "head" / "model", own)
    done = CliRunner().invoke(cli, ["compare", "--base", "base", "--head", "head", "--model", "model"])
    assert isinstance(done.exception, AdapterError)
    assert done.exception.message == "head/model is an adapter, and models are compared whole"
    assert "merge_and_unload" in done.exception.hint


def test_a_merged_model_where_the_base_has_an_adapter_is_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    models.write(tmp_path / "base" / "model", adapters.adapter_files())
    models.write(tmp_path / "head" / "model", models.files())
    sides = ("--base", "base", "--head", "head", "--model", "model")
    said = run("compare", *sides, "--work", "work", "--quiet", "--dry-run", "--json")
    [changed] = Comparison.from_json(json.loads(said)).changes
    assert (changed.what, changed.before) == ("model", "")


def test_a_model_that_is_a_link_out_of_its_side_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    models.write(tmp_path / "elsewhere", models.files())
    models.write(tmp_path / "base" / "model", models.files())
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "model").symlink_to(tmp_path / "elsewhere")
    done = CliRunner().invoke(cli, ["compare", "--base", "base", "--head", "head", "--model", "model"])
    assert "leads out of" in str(done.exception)
