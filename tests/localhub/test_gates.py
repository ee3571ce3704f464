"""The gate of a repo through the Hub's own client."""

import json
from collections.abc import Callable

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

from bot.localhub import Grant, RunningHub
from tests.localhub.conftest import Ask

VISITOR = Grant(name="visitor", scope="read", namespaces=())


@pytest.fixture
def gated(api: HfApi) -> str:
    """A repo behind a gate, with a file."""
    api.create_repo("org/gated")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="org/gated")
    api.update_repo_settings("org/gated", gated="manual")
    return "org/gated"


def listed(api: HfApi, repo: str) -> dict[str, list[str | None]]:
    lists = {
        "accepted": api.list_accepted_access_requests(repo),
        "pending": api.list_pending_access_requests(repo),
        "rejected": api.list_rejected_access_requests(repo),
    }
    return {status: [r.username for r in found] for status, found in lists.items()}


def test_a_request_goes_through_every_status(api: HfApi, client: Callable[[Grant], HfApi], gated: str) -> None:
    visitor = client(VISITOR)
    nobody: dict[str, list[str | None]] = {"accepted": [], "pending": [], "rejected": []}
    assert listed(api, gated) == nobody
    with pytest.raises(
        GatedRepoError, match="Access to model org/gated is restricted and you are not in the authorized list"
    ):
        visitor.auth_check(gated)
    api.grant_access(gated, "visitor")
    assert listed(api, gated) == nobody | {"accepted": ["visitor"]}
    visitor.auth_check(gated)
    api.cancel_access_request(gated, "visitor")
    assert listed(api, gated) == nobody | {"pending": ["visitor"]}
    with pytest.raises(GatedRepoError, match="awaiting a review from the repo authors"):
        visitor.auth_check(gated)
    api.reject_access_request(gated, "visitor", rejection_reason="no")
    assert listed(api, gated) == nobody | {"rejected": ["visitor"]}
    with pytest.raises(GatedRepoError, match="has been rejected by the repo's authors"):
        visitor.auth_check(gated)
    (request,) = api.list_rejected_access_requests(gated)
    assert (request.email, request.fields, request.status) == (None, None, "rejected")
    api.accept_access_request(gated, request_id=request.request_id)
    assert listed(api, gated) == nobody | {"accepted": ["visitor"]}
    visitor.hf_hub_download(gated, "x", force_download=True)


def test_nothing_is_decided_twice(api: HfApi, gated: str) -> None:
    api.grant_access(gated, "visitor")
    with pytest.raises(HfHubHTTPError) as error:
        api.grant_access(gated, "Visitor")
    assert error.value.response.status_code == 400
    decide: list[Callable[[], None]] = [
        lambda: api.accept_access_request(gated, "visitor"),
        lambda: api.reject_access_request(gated, "visitor", rejection_reason=None),
        lambda: api.cancel_access_request(gated, "visitor"),
    ]
    for number, call in enumerate(decide):
        if number:
            call()
        with pytest.raises(HfHubHTTPError, match="already") as error:
            call()
        assert error.value.response.status_code == 404
    with pytest.raises(HfHubHTTPError, match="did not ask") as error:
        api.accept_access_request(gated, "stranger")
    assert error.value.response.status_code == 404


def test_requests_are_for_the_owner_of_a_gated_repo(
    hub: RunningHub, api: HfApi, client: Callable[[Grant], HfApi], gated: str
) -> None:
    others = [
        client(VISITOR),
        client(Grant(name="w", scope="write", namespaces=("org/gated",))),
        HfApi(hub.url, token=False),
    ]
    for other in others:
        for call in (lambda: listed(other, gated), lambda: other.grant_access(gated, "w")):  # noqa: B023
            with pytest.raises(HfHubHTTPError) as error:
                call()
            assert error.value.response.status_code in (401, 403)
    with pytest.raises(GatedRepoError, match="You must have access to it and be authenticated"):
        others[2].auth_check(gated)
    api.update_repo_settings(gated, gated=False)
    for call in (lambda: listed(api, gated), lambda: api.accept_access_request(gated, "w")):
        with pytest.raises(HfHubHTTPError, match="not gated"):
            call()


@pytest.mark.parametrize(
    "body",
    [
        {"status": "accepted"},
        {"user": "v"},
        {"user": "v", "status": "lost"},
        {"user": 3, "status": "accepted"},
        {"user": "v", "status": "accepted", "rejectionReason": "why"},
        {"user": "v", "status": "rejected", "rejectionReason": "x" * 201},
    ],
)
def test_an_undecidable_request_changes_nothing(api: HfApi, ask: Ask, gated: str, body: dict[str, object]) -> None:
    api.grant_access(gated, "v")
    path = "/api/models/org/gated/user-access-request/handle"
    assert ask("POST", path, body=json.dumps(body).encode(), token=str(api.token)).status == 400
    assert listed(api, gated)["accepted"] == ["v"]


def test_those_whom_an_earlier_version_let_in_are_still_in(
    hub: RunningHub, api: HfApi, client: Callable[[Grant], HfApi], gated: str
) -> None:
    repo = hub.hub.repo("model", "org", "gated")
    assert repo is not None
    settings = json.loads((repo.folder / "repo.json").read_text())
    settings.pop("requests", None)
    (repo.folder / "repo.json").write_text(json.dumps(settings | {"access": ["visitor", "other"]}))
    client(VISITOR).auth_check(gated)
    api.reject_access_request(gated, "visitor", rejection_reason=None)
    assert listed(api, gated) == {"accepted": ["other"], "pending": [], "rejected": ["visitor"]}
