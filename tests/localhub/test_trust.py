"""Single repos: tokens for them alone, and how a workflow gets one in exchange for what its issuer says of it."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from bot.localhub import Grant, RunningHub
from tests.hub.fixtures import trust
from tests.hub.issuer import CLAIMS, Issuer
from tests.localhub.conftest import Ask

MINE = Grant(name="me", scope="write", namespaces=("me/staging", "datasets/me/state"))
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"

Client = Callable[[Grant], HfApi]


@pytest.fixture
def repos(api: HfApi) -> None:
    """Repos of one owner: public and private ones, and a data set that is called like a model."""
    api.create_repo("me/staging", private=True)
    api.create_repo("me/public")
    api.create_repo("me/private", private=True)
    api.create_repo("me/state", repo_type="dataset", private=True)
    api.create_repo("me/state", private=True)


def add(api: HfApi, repo: str, **where: Any) -> None:
    api.create_commit(repo, [CommitOperationAdd("w.gguf", b"weights")], commit_message="Add", **where)


# ---- tokens for single repos -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("repos")
def test_a_token_for_repos_reads_and_writes_these_alone(client: Client, api: HfApi) -> None:
    mine = client(MINE)
    add(mine, "me/staging")
    add(mine, "me/state", repo_type="dataset")
    assert "w.gguf" in mine.list_repo_files("me/staging")
    for repo in ("me/private", "me/state"):
        with pytest.raises(RepositoryNotFoundError):
            mine.list_repo_files(repo)
    assert {m.id for m in mine.list_models(author="me")} == {"me/staging", "me/public"}
    with pytest.raises(HfHubHTTPError, match="403"):
        add(mine, "me/public")
    assert api.list_repo_files("me/public") == [".gitattributes"]


@pytest.mark.usefixtures("repos")
def test_it_makes_deletes_and_opens_nothing(client: Client, api: HfApi) -> None:
    mine = client(MINE)
    refused: list[Callable[[], object]] = [
        lambda: mine.create_repo("me/new"),
        lambda: mine.create_repo("you/new"),
        lambda: mine.delete_repo("me/staging"),
        lambda: mine.update_repo_settings("me/staging", private=False),
        lambda: mine.create_pull_request("me/public", "Mine"),
        lambda: mine.create_discussion("me/public", "Mine"),
        lambda: add(mine, "me/public", create_pr=True),
    ]
    for call in refused:
        with pytest.raises(HfHubHTTPError, match="403"):
            call()
    assert api.model_info("me/staging").private
    add(mine, "me/staging", create_pr=True)
    mine.merge_pull_request("me/staging", 1)


@pytest.mark.parametrize("place", ["", "a/b/c", "../b", "me/", "/b", "spaces/me/b", "me/a.git"])
def test_a_token_for_no_place_is_not_made(hub: RunningHub, place: str) -> None:
    with pytest.raises(Exception, match="cannot be a"):
        hub.hub.tokens.make("me", "write", (place,))


# ---- the exchange ------------------------------------------------------------------------------------------------


@pytest.fixture
def trusted(hub: RunningHub, repos: None, github_identity: Issuer) -> Issuer:
    """A repo trusts one workflow, in one environment."""
    trust(hub, "me/staging", github_identity, repository="me/phi-models", environment="promote")
    return github_identity


def exchange(ask: Ask, subject: object, resource: object = "me/staging", **more: object) -> tuple[int, dict[str, Any]]:
    said = {"grant_type": EXCHANGE, "subject_token_type": ID_TOKEN, "subject_token": subject, "resource": resource}
    headers = {"Content-Type": "application/json"}
    answer = ask("POST", "/oauth/token", headers=headers, body=json.dumps(said | more).encode())
    return answer.status, json.loads(answer.body)


def test_a_trusted_workflow_gets_a_token_for_an_hour(
    hub: RunningHub, ask: Ask, trusted: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, answer = exchange(ask, trusted.sign(hub.url))
    assert (status, answer["token_type"], answer["expires_in"]) == (200, "bearer", 3600)
    api = HfApi(endpoint=hub.url, token=answer["access_token"])
    add(api, "me/staging")
    assert api.list_repo_commits("me/staging")[0].authors == ["[OIDC]"]
    with pytest.raises(HfHubHTTPError, match="403"):
        add(api, "me/public")
    assert answer["access_token"] not in (hub.hub.folder / "tokens.json").read_text()
    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(HfHubHTTPError, match="401"):
        add(api, "me/staging")


@pytest.mark.parametrize(
    "more",
    [
        {"repository": "me/phi-models-2"},
        {"repository": None},
        {"repository": ["me/phi-models"]},
        {"environment": "promote-2"},
        {"environment": None},
        {"aud": "https://huggingface.co"},
        {"aud": None},
        {"iss": "https://token.actions.githubusercontent.com"},
        {"iss": None},
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"nbf": 99_999_999_999},
    ],
    ids=str,
)
def test_whoever_else_gets_none(hub: RunningHub, ask: Ask, trusted: Issuer, more: dict[str, Any]) -> None:
    assert exchange(ask, trusted.sign(hub.url, **more)) == (
        400,
        {"error": "invalid_grant", "error_description": "the token does not give access to this resource"},
    )


def test_a_signature_that_is_not_the_issuers_is_not_taken(hub: RunningHub, ask: Ask, trusted: Issuer) -> None:
    whole = trusted.sign(hub.url)
    head, body, signature = whole.split(".")
    other = trusted.sign(hub.url, key=generate_private_key(public_exponent=65537, key_size=2048))
    richer = base64.urlsafe_b64encode(json.dumps({"iss": trusted.url, "aud": hub.url}).encode()).rstrip(b"=").decode()
    claims = {"iss": trusted.url, "aud": hub.url, "iat": int(time.time()), "exp": int(time.time()) + 300, **CLAIMS}
    unsigned = jwt.encode(claims, "", algorithm="none")
    shared = jwt.encode(claims, "a word that both know, of some length", algorithm="HS256", headers={"kid": "the-key"})
    unknown = jwt.encode(claims, trusted.key, algorithm="RS256", headers={"kid": "another"})
    for token in (other, f"{head}.{richer}.{signature}", f"{head}.{body}.", unsigned, shared, unknown, "", "a.b.c"):
        assert exchange(ask, token)[1]["error"] == "invalid_grant", token
    assert exchange(ask, whole)[0] == 200


@pytest.mark.parametrize("resource", ["me/public", "me/nothing", "datasets/me/staging", "datasets/me/state"])
def test_another_repo_is_not_opened_by_it(hub: RunningHub, ask: Ask, trusted: Issuer, resource: str) -> None:
    assert exchange(ask, trusted.sign(hub.url), resource)[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("resource", "more"),
    [
        ("me", {}),
        ("", {}),
        ("a/b/c/d", {}),
        ("spaces/me/staging", {}),
        ("../staging", {}),
        (None, {}),
        ("me/staging", {"grant_type": "password"}),
        ("me/staging", {"subject_token_type": None}),
        ("me/staging", {"subject_token": 1}),
    ],
)
def test_a_senseless_exchange_is_an_invalid_request(
    hub: RunningHub, ask: Ask, trusted: Issuer, resource: object, more: dict[str, object]
) -> None:
    status, answer = exchange(ask, trusted.sign(hub.url), resource, **more)
    assert (status, answer["error"]) == (400, "invalid_request")


def test_an_issuer_that_no_publisher_names_is_not_asked(
    hub: RunningHub, ask: Ask, repos: None, workflow: Issuer
) -> None:
    trust(hub, "me/public", workflow)
    with_another = workflow.sign(hub.url, iss="http://127.0.0.1:1")
    begin = time.monotonic()
    assert exchange(ask, with_another, "me/public")[1]["error"] == "invalid_grant"
    assert time.monotonic() - begin < 5


# ---- whom a repo trusts ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("repos")
def test_only_the_owner_says_whom_a_repo_trusts(hub: RunningHub, ask: Ask, github_identity: Issuer) -> None:
    path = "/api/models/me/staging/trusted-publishers"
    body = json.dumps({"publishers": [{"issuer": github_identity.url, "claims": {"repository": "evil/one"}}]}).encode()
    scoped = hub.hub.tokens.make(MINE.name, MINE.scope, MINE.namespaces)
    reader = hub.hub.tokens.make("reader", "read", ("me",))
    for token, status in ((scoped, 403), (reader, 403), (None, 401)):
        assert ask("PUT", path, body=body, token=token).status == status
    assert json.loads(ask("GET", path, token=hub.token).body) == []
    assert ask("PUT", path, body=body, token=hub.token).status == 200
    assert json.loads(ask("GET", path, token=hub.token).body) == json.loads(body)["publishers"]
    assert ask("PUT", path, body=b'{"publishers": []}', token=hub.token).status == 200
    assert exchange(ask, github_identity.sign(hub.url, repository="evil/one"))[1]["error"] == "invalid_grant"


@pytest.mark.usefixtures("repos")
@pytest.mark.parametrize(
    "publisher",
    [
        {"issuer": "http://example.com", "claims": {"repository": "a/b"}},
        {"issuer": "https://user:word@example.com", "claims": {"repository": "a/b"}},
        {"issuer": "file:///etc/passwd", "claims": {"repository": "a/b"}},
        {"issuer": "https://example.com", "claims": {}},
        {"issuer": "https://example.com", "claims": {"repository": 1}},
        {"issuer": "https://example.com"},
        {"issuer": "https://example.com", "claims": {"repository": "a/b"}, "more": 1},
        "https://example.com",
    ],
    ids=str,
)
def test_a_publisher_that_could_be_anybody_is_refused(hub: RunningHub, ask: Ask, publisher: object) -> None:
    body = json.dumps({"publishers": [publisher]}).encode()
    assert ask("PUT", "/api/models/me/staging/trusted-publishers", body=body, token=hub.token).status == 400
