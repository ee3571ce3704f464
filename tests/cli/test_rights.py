"""Without a token that may do it, nothing is begun: no weights are fetched, and no toolchain is entered."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.errors import GithubError, TokenError
from bot.localhub.tokens import Grant
from tests.cli.world import VARIANT, World
from tests.github_server import Fault, serve
from tests.steps import proven

NEW = "microsoft/Phi-7-new"
MODES = {
    "run": ("run", NEW, "-v", VARIANT, "--namespace", "me"),
    "run what is watched": ("run", "-v", VARIANT, "--namespace", "me"),
    "run --stage": ("run", NEW, "-v", VARIANT, "--namespace", "me", "--stage"),
    "run --on hf-jobs": ("run", NEW, "-v", VARIANT, "--namespace", "me", "--on", "hf-jobs"),
    "plan --begin": ("plan", NEW, "-v", VARIANT, "--namespace", "me", "--matrix", "--begin"),
    "publish": ("publish", "WHOLE", "--namespace", "me"),
    "stage": ("stage", "WHOLE", "--namespace", "me"),
    "promote": ("promote", "--namespace", "me"),
    "schedule": ("schedule", "install", "--namespace", "me"),
    "webhook": ("webhook", "install", "--namespace", "me"),
}


@pytest.fixture
def ready(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A model that is not built yet, and an artifact that waits to be published. No toolchain can be entered."""

    def entered(*_: object) -> None:
        pytest.fail("a toolchain was entered")

    for module in ("build_job", "build_together", "verify_artifact", "weights_pass"):
        monkeypatch.setattr(f"bot.proving.{module}.ensure", entered)
    proven.put(world.hub, NEW)
    return world


def made(folder: Path) -> list[str]:
    """Return what there is of downloads, builds and toolchains, beside the artifact that was there before."""
    kept = (
        "cache/work/sources",
        "cache/work/staged",
        "cache/work/references",
        "cache/work/pictures",
        "cache/work/logs",
    )
    return [name for name in (*kept, "cache/toolchains") if (folder / name).exists()]


TOKENS: dict[str, Callable[[World], str]] = {
    "none": lambda _: "",
    "wrong": lambda _: "hub_wrong",
    "read": lambda w: w.hub.hub.tokens.make_for(Grant(name="me", scope="read", namespaces=("me", "microsoft"))),
    "another's": lambda w: w.hub.hub.tokens.make_for(Grant(name="other", scope="write", namespaces=("other",))),
}


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("mode", MODES)
def test_without_the_right_nothing_is_begun(
    ready: World, monkeypatch: pytest.MonkeyPatch, mode: str, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKENS[token](ready))
    words = [str(ready.built) if w == "WHOLE" else w for w in MODES[mode]]
    code, out, err = ready.phi_bot(*words)
    assert code == TokenError.exit_code, out + err
    assert made(ready.folder) == []
    assert "Traceback" not in err


def test_a_token_for_the_staging_repo_alone_may_stage_and_not_publish(
    ready: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = Grant(name="me", scope="write", namespaces=("me/phi-bot-staging",))
    monkeypatch.setenv("HF_TOKEN", ready.hub.hub.tokens.make_for(grant))
    refused = ready.report(TokenError.exit_code, "publish", str(ready.built), "--namespace", "me")
    assert "no permission repo.write in me" in refused.failures[0].message
    assert ready.phi_bot("run", NEW, "-v", VARIANT, "--namespace", "me")[0] == TokenError.exit_code
    assert made(ready.folder) == []


def test_only_repos_that_may_not_be_written_are_left_out(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token for one repo publishes there, and the failure of the others was known before."""
    other = ready.build(proven.release(ready.hub, "microsoft/Phi-8-other"))
    HfApi(endpoint=ready.hub.url, token=ready.hub.token).create_repo("me/Phi-2-whole-GGUF")  # it may make none
    grant = Grant(name="me", scope="write", namespaces=("me/Phi-2-whole-GGUF",))
    monkeypatch.setenv("HF_TOKEN", ready.hub.hub.tokens.make_for(grant))
    report = ready.report(3, "publish", str(other), str(ready.built), "--namespace", "me")
    assert [p.repo_id for p in report.publications] == ["me/Phi-2-whole-GGUF"]
    assert [(f.release.partition("@")[0], f.exit_code) for f in report.failures] == [("microsoft/Phi-8-other", 30)]


@pytest.mark.server
@pytest.mark.parametrize("token", ["none", "wrong"])
def test_issues_that_nobody_could_write_are_known_before_the_work(
    ready: World, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    (ready.folder / "phi-bot.toml").write_text('[publish]\nnamespace = "me"\n[announce]\nrepository = "o/r"\n')
    with serve() as github:
        for name, value in github.environ.items():
            monkeypatch.setenv(name, value)
        if token == "none":
            monkeypatch.setenv("GITHUB_TOKEN", "")
        github.faults = [Fault(method="GET", path="/repos/o/r", status=401, message="Bad credentials")]
        code, _, err = ready.phi_bot("run", NEW, "-v", VARIANT)
    assert code == GithubError.exit_code, err
    assert "announce.repository is o/r" in err
    assert made(ready.folder) == []


def test_a_dry_run_needs_no_right(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    code, out, err = ready.phi_bot("run", NEW, "-v", VARIANT, "--namespace", "me", "--dry-run", "--json")
    assert (code, json.loads(out)["failures"]) == (0, []), err
