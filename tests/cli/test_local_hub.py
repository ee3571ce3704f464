"""Whom the embedded Hub lets do what, from the command line."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from bot.cli import cli
from bot.localhub import RunningHub


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["hub", *map(str, arguments)])
    return done.exit_code, done.output


def test_a_token_is_good_at_once_and_for_its_place_alone(hub: RunningHub) -> None:
    owner = HfApi(endpoint=hub.url, token=hub.token)
    for name in ("me/staging", "me/public"):
        owner.create_repo(name)
    code, token = run("token", hub.hub.folder, "me", "--for", "me/staging")
    assert code == 0
    api = HfApi(endpoint=hub.url, token=token.strip())
    api.upload_file(path_or_fileobj=b"1", path_in_repo="x", repo_id="me/staging")
    with pytest.raises(HfHubHTTPError, match="403"):
        api.upload_file(path_or_fileobj=b"1", path_in_repo="x", repo_id="me/public")
    code, token = run("token", hub.hub.folder, "me", "--scope", "read")
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(endpoint=hub.url, token=token.strip()).create_repo("me/new")


@pytest.mark.parametrize("arguments", [("../me",), ("me", "--for", "a/b/c"), ("me", "--scope", "admin")])
def test_a_token_for_nobody_is_wrong_usage(hub: RunningHub, arguments: tuple[str, ...]) -> None:
    assert run("token", hub.hub.folder, *arguments)[0] == 2


def test_a_repo_trusts_one_workflow_after_the_other(hub: RunningHub) -> None:
    HfApi(endpoint=hub.url, token=hub.token).create_repo("me/m")
    code, output = run("trust", hub.hub.folder, "me/m", "--claim", "repository=a/b", "--claim", "environment=promote")
    assert (code, "repository=a/b and environment=promote" in output) == (0, True)
    assert run("trust", hub.hub.folder, "me/m", "--claim", "repository=c/d", "--issuer", "http://127.0.0.1:1")[0] == 0
    repo = hub.hub.repo("model", "me", "m")
    assert repo is not None
    assert [(p.issuer, p.claims) for p in repo.settings().publishers] == [
        ("https://token.actions.githubusercontent.com", {"repository": "a/b", "environment": "promote"}),
        ("http://127.0.0.1:1", {"repository": "c/d"}),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("me/m",),
        ("me/m", "--claim", "repository"),
        ("me/m", "--claim", "a=b", "--claim", "a=c"),
        ("me/m", "--claim", "a=b", "--issuer", "http://example.com"),
        ("me/nothing", "--claim", "a=b"),
        ("datasets/me/m", "--claim", "a=b"),
        ("../m", "--claim", "a=b"),
    ],
)
def test_an_untrustworthy_publisher_is_wrong_usage(hub: RunningHub, arguments: tuple[str, ...]) -> None:
    HfApi(endpoint=hub.url, token=hub.token).create_repo("me/m")
    assert run("trust", hub.hub.folder, *arguments)[0] == 2
    repo = hub.hub.repo("model", "me", "m")
    assert repo is not None
    assert repo.settings().publishers == ()
