"""Trusted Publishers: a workflow writes to the repos that trust it, and to no others, without a stored token."""

import inspect
import logging
import os
import time
from types import SimpleNamespace

import pytest
from huggingface_hub import _oidc

from bot.errors import HubRefusedError, TokenError
from bot.hub import trusted_publishers
from bot.hub.client import Hub, HubFile, connect
from bot.localhub import RunningHub
from bot.toolchains.enter import child_environment
from tests.hub.faulty import Fault, Proxy
from tests.hub.fixtures import Log, trust
from tests.hub.issuer import Issuer

STAGING, PUBLIC = "me/staging", "me/Phi-4-GGUF"
WEIGHTS = os.urandom(20_000)


@pytest.fixture
def repos(client: Hub) -> str:
    """A staging repo with a file in it, and an empty public one; the head of the latter."""
    client.commit(STAGING, files={"a/model.gguf": WEIGHTS}, parent=None, message="Stage", task=Log())
    client.api.create_repo(PUBLIC)
    return head_of(client, PUBLIC)


@pytest.fixture
def keyless(hub: RunningHub, workflow: Issuer) -> Hub:
    """The client of a workflow."""
    return connect(hub.url, trusted_publishers=True)


def head_of(hub: Hub, repo_id: str) -> str:
    found = hub.files(repo_id)
    assert found is not None
    return found[0]


def staged(hub: Hub) -> HubFile:
    found = hub.files(STAGING)
    assert found is not None
    return HubFile(repo_id=STAGING, commit=found[0], file=found[1]["a/model.gguf"])


def put(hub: Hub, repo_id: str, parent: str | None, **more: HubFile) -> str:
    files: dict[str, bytes | HubFile] = {"README.md": b"---\nlicense: mit\n---\n", **more}
    return hub.commit(repo_id, files=files, parent=parent, message="Publish", task=Log())


# ---- what it may do ----------------------------------------------------------------------------------------------


def test_a_workflow_publishes_where_it_is_trusted_by_copying(
    hub: RunningHub, keyless: Hub, repos: str, workflow: Issuer
) -> None:
    trust(hub, PUBLIC, workflow, repository="me/phi-models", environment="promote")
    commit = put(keyless, PUBLIC, repos, model=staged(keyless))
    found = keyless.files(PUBLIC)
    assert found is not None
    assert found[0] == commit
    assert found[1]["model"].digest == staged(keyless).file.digest
    assert workflow.minted == 2  # one for the staging repo, refused and remembered; one for the public one


def test_it_can_write_to_no_other_repo(hub: RunningHub, keyless: Hub, repos: str, workflow: Issuer) -> None:
    trust(hub, STAGING, workflow)
    put(keyless, STAGING, head_of(keyless, STAGING))
    with pytest.raises(TokenError, match=f"no token for {PUBLIC}") as caught:
        put(keyless, PUBLIC, repos)
    assert "docs/promotion.md" in caught.value.hint
    stolen = Hub(endpoint=hub.url, api=connect(hub.url, keyless.publishers.token(STAGING)).api)  # type: ignore[union-attr]
    with pytest.raises(TokenError, match="no right"):
        put(stolen, PUBLIC, repos)
    assert head_of(keyless, PUBLIC) == repos


def test_a_repo_that_is_not_there_is_not_made(hub: RunningHub, keyless: Hub) -> None:
    assert keyless.record("me/new") is None
    with pytest.raises(TokenError, match="no such repo, or it trusts another workflow") as caught:
        put(keyless, "me/new", None)
    assert "made once, by hand" in caught.value.hint


@pytest.mark.parametrize("claims", [{"repository": "me/phi-models-2"}, {"repository": "me/phi-models", "ref": "main"}])
def test_another_workflow_gets_nothing(
    hub: RunningHub, keyless: Hub, repos: str, workflow: Issuer, claims: dict[str, str]
) -> None:
    trust(hub, PUBLIC, workflow, **claims)
    with pytest.raises(TokenError, match="trusts another workflow"):
        put(keyless, PUBLIC, repos)


def test_a_data_set_is_trusted_by_itself(hub: RunningHub, keyless: Hub, client: Hub, workflow: Issuer) -> None:
    client.api.create_repo("me/state", repo_type="dataset", private=True)
    trust(hub, "datasets/me/state", workflow)
    found = keyless.read_files("me/state", ["state.json"], repo_type="dataset")
    assert found is not None
    with_state = {"state.json": b"{}"}
    keyless.commit("me/state", files=with_state, parent=found[1], message="Note", repo_type="dataset", task=Log())
    assert keyless.read_files("me/state", ["state.json"], repo_type="dataset")[0] == with_state  # type: ignore[index]


def test_a_private_staging_repo_cannot_be_copied_from(
    hub: RunningHub, keyless: Hub, client: Hub, repos: str, workflow: Issuer
) -> None:
    trust(hub, PUBLIC, workflow)
    source = staged(client)
    client.api.update_repo_settings(STAGING, private=True)
    with pytest.raises(TokenError, match=f"the token that writes to {PUBLIC} cannot read {STAGING}") as caught:
        put(keyless, PUBLIC, repos, model=source)
    assert f"Make {STAGING} public" in caught.value.hint
    assert head_of(client, PUBLIC) == repos


def test_it_proposes_and_finds_its_own(hub: RunningHub, keyless: Hub, repos: str, workflow: Issuer) -> None:
    trust(hub, PUBLIC, workflow)
    number = keyless.propose(
        PUBLIC, files={"model": staged(keyless)}, parent=repos, title="Try this", description="", task=Log()
    )
    assert [p.number for p in keyless.proposals(PUBLIC)] == [number]
    assert keyless.merge(PUBLIC, number) == head_of(keyless, PUBLIC)


# ---- where there is no identity ----------------------------------------------------------------------------------


def test_reading_goes_on_without_an_identity(
    keyless: Hub, repos: str, workflow: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert head_of(keyless, PUBLIC) == repos
    assert keyless.record(PUBLIC) is not None


@pytest.mark.parametrize(
    ("missing", "message", "hint"),
    [
        ("GITHUB_ACTIONS", "not a workflow of GitHub Actions", "set HF_TOKEN"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "gives this job no identity", "`id-token: write`"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "gives this job no identity", "`id-token: write`"),
    ],
)
def test_a_missing_variable_is_an_error_with_a_remedy(
    keyless: Hub, repos: str, monkeypatch: pytest.MonkeyPatch, missing: str, message: str, hint: str
) -> None:
    monkeypatch.delenv(missing)
    with pytest.raises(TokenError, match=message) as caught:
        put(keyless, PUBLIC, repos)
    assert hint in caught.value.hint
    with pytest.raises(TokenError, match=message):
        keyless.check_rights()


def test_rights_are_checked_without_a_token(keyless: Hub, workflow: Issuer) -> None:
    keyless.check_rights()
    assert workflow.minted == 1


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "answer", [(401, b"{}"), (200, b"{}"), (200, b'{"value": ""}'), (200, b'{"value": 1}'), (200, b"hello")]
)
def test_a_github_that_says_nothing_useful_is_said_so(
    keyless: Hub, repos: str, workflow: Issuer, answer: tuple[int, bytes]
) -> None:
    workflow.answer = answer
    with pytest.raises(TokenError, match="GitHub did not say which workflow this is") as caught:
        put(keyless, PUBLIC, repos)
    assert workflow.request_token not in str(caught.value)


# ---- the token itself --------------------------------------------------------------------------------------------


def test_one_token_does_for_an_hour_and_is_renewed_before_it_ends(
    hub: RunningHub, keyless: Hub, repos: str, workflow: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(hub, PUBLIC, workflow)
    clock = SimpleNamespace(now=time.monotonic())
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    publishers = keyless.publishers
    assert publishers is not None
    api = publishers.writing(PUBLIC, "model")
    first = api.token
    clock.now += 3600 - 301
    assert api.token == first
    clock.now += 2
    assert api.token != first  # the same client goes on with another token: an upload may take hours
    assert workflow.minted == 2


def test_every_request_of_a_commit_takes_the_token_of_its_moment(
    hub: RunningHub, keyless: Hub, repos: str, workflow: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(hub, PUBLIC, workflow)
    monkeypatch.setattr(trusted_publishers, "_EARLY", 3600.0)  # as if each token ran out at once
    source = staged(keyless)
    before = workflow.minted
    files: dict[str, bytes | HubFile] = {"model": source, "other.gguf": WEIGHTS[1:], "README.md": b"# Phi\n"}
    commit = keyless.commit(PUBLIC, files=files, parent=repos, message="Publish", task=Log())
    assert head_of(keyless, PUBLIC) == commit
    assert workflow.minted - before > 8


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"lose": True}, {"half": True}])
def test_a_hub_that_falters_is_asked_again(
    hub: RunningHub, faulty: Proxy, repos: str, workflow: Issuer, fault: dict[str, object]
) -> None:
    trust(hub, PUBLIC, workflow)
    faulty.faults.append(Fault(method="POST", path="/oauth/token", times=2, **fault))  # type: ignore[arg-type]
    put(connect(faulty.url, trusted_publishers=True), PUBLIC, repos)
    assert faulty.count("POST", "/oauth/token") == 3


@pytest.mark.parametrize("body", [b"{}", b'{"access_token": "a\\nb", "expires_in": 3600}', b'{"access_token": "a"}'])
def test_an_answer_without_a_token_is_not_a_hubs(faulty: Proxy, repos: str, workflow: Issuer, body: bytes) -> None:
    json = {"Content-Type": "application/json"}
    faulty.faults.append(Fault(method="POST", path="/oauth/token", status=200, body=body, headers=json))
    with pytest.raises(HubRefusedError, match=f"gave no token for {PUBLIC}"):
        put(connect(faulty.url, trusted_publishers=True), PUBLIC, repos)


def test_no_token_is_shown_logged_or_handed_on(
    hub: RunningHub, keyless: Hub, repos: str, workflow: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    before = dict(os.environ)
    trust(hub, PUBLIC, workflow)
    put(keyless, PUBLIC, repos)
    assert keyless.publishers is not None
    token = keyless.publishers.token(PUBLIC)
    shown = f"{keyless!r} {keyless.publishers!r} {vars(keyless.publishers)!r}"
    assert token not in caplog.text
    assert token not in shown
    assert workflow.request_token not in caplog.text
    assert dict(os.environ) == before
    assert not {*workflow.environment()} & child_environment("somewhere").keys()


def test_the_library_still_has_the_private_function_used_here() -> None:
    """It is not a public part of huggingface_hub: a new version may move it."""
    assert {"subject_token", "resource", "endpoint"} <= inspect.signature(_oidc.exchange_oidc_token).parameters.keys()
