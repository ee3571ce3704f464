"""What a person reads when a Hub does not do as it should, and where a token goes."""

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from bot.errors import (
    ConfigError,
    ConflictError,
    HubRefusedError,
    HubUnreachableError,
    PhiBotError,
    TokenError,
)
from bot.hub import session
from bot.hub.client import Hub, connect
from bot.hub.errors import hub_errors, no_token
from bot.hub.namespace import Namespace
from bot.hub.retry import REFUSED_REPEATS
from bot.hub.server_text import safe_line
from bot.localhub import Grant, RunningHub, serve
from tests.hub.faulty import Fault, Proxy
from tests.hub.fixtures import Log
from tests.source.models import files

REPO = "me/Phi-4"


def put(hub: Hub) -> str:
    return hub.commit(REPO, files={"a.txt": b"a"}, parent=None, message="Add it", task=Log())


ASK: dict[str, Callable[[Hub], object]] = {
    "whoami": lambda hub: hub.whoami(),
    "sources": lambda hub: hub.sources("me"),
    "namespace": lambda hub: hub.namespace("me"),
    "release": lambda hub: hub.release(REPO),
    "record": lambda hub: hub.record(REPO),
    "commit": put,
}


@pytest.fixture
def without_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the tokens of this machine."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


# ---- Hubs that cannot be reached -----------------------------------------------------------------------------


@pytest.fixture
def closed() -> Iterator[str]:
    """An address where nothing listens, and nothing else will while the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK.keys())
def test_a_hub_that_is_not_there_is_said_so_within_seconds(
    closed: str, ask: Callable[[Hub], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    with pytest.raises(HubUnreachableError, match=f"^{closed} is not reachable") as caught:
        ask(connect(closed, "hf_secret123"))
    assert caught.value.exit_code == 31
    assert len(waited) == REFUSED_REPEATS  # a Hub that starts anew is there again by then
    assert sum(waited) < 10


def test_a_hub_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import close_session

    monkeypatch.setattr(session, "_SILENCE_SECONDS", 0.05)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    close_session()  # the next request is made by a client with that time-out
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(HubUnreachableError, match=f"^{url} did not answer in time"):
            connect(url, "hf_secret123").whoami()
    close_session()


def test_trusted_authorities_are_read_once_a_process(client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2
    from huggingface_hub import close_session

    read = Mock(wraps=httpx2.create_ssl_context)
    monkeypatch.setattr(httpx2, "create_ssl_context", read)
    session._certificates.cache_clear()
    for _ in range(2):
        close_session()  # the next request is made by another client
        client.whoami()
    assert read.call_count == 1


def test_offline_mode_is_named(client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachableError, match="HF_HUB_OFFLINE is set"):
        client.whoami()


# ---- Hubs that answer something else -------------------------------------------------------------------------


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("ask", ASK.values(), ids=ASK.keys())
@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, TokenError, "does not accept this token"),
        (403, TokenError, "has no right to do that in .*: go away"),
        (412, ConflictError, "at the same moment"),
        (418, HubRefusedError, "refused with status 418: go away"),
        (429, HubRefusedError, "asks to slow down"),
        (500, HubRefusedError, "failed with status 500: go away"),
        (503, HubRefusedError, "failed with status 503: go away"),
    ],
)
def test_every_refusal_is_one_line_that_names_the_hub_or_the_repo(
    shaky: Hub, faulty: Proxy, ask: Callable[[Hub], object], status: int, error: type[PhiBotError], words: str
) -> None:
    for method in ("GET", "POST"):
        faulty.faults.append(Fault(method=method, path="", status=status, body=b"go\naway\x1b[2J"))
    with pytest.raises(error, match=words) as caught:
        ask(shaky)
    assert caught.value.message.isprintable()
    assert caught.value.hint
    assert faulty.url in caught.value.message or "me" in caught.value.message


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK.keys())
@pytest.mark.parametrize("body", [b"<html>A captive portal</html>", b"[]", b'"words"', b"{}", b"null", b"[1]"])
def test_a_server_that_is_not_a_hub_is_refused(
    shaky: Hub, faulty: Proxy, ask: Callable[[Hub], object], body: bytes
) -> None:
    for method in ("GET", "POST"):
        faulty.faults.append(Fault(method=method, path="", status=200, body=body))
    if ask in (ASK["sources"], ASK["namespace"]) and body in (b"[]", b"{}"):
        assert ask(shaky) in ([], Namespace(shelved={}, foreign=frozenset(), owner="me"))
        return
    with pytest.raises(HubRefusedError, match=r"did not answer as a Hub does|names no commit|names no account"):
        ask(shaky)


def test_an_answer_that_came_twice_spoils_no_later_call(shaky: Hub, faulty: Proxy) -> None:
    faulty.faults.append(Fault(method="GET", path="/api/models", twice=True, times=1))
    shaky.check()
    with pytest.raises(HubRefusedError):  # that was the list once more
        shaky.whoami()
    assert shaky.whoami()


@pytest.mark.usefixtures("at_once")
def test_a_hub_that_falters_is_asked_again(shaky: Hub, faulty: Proxy) -> None:
    for ask in (ASK["commit"], ASK["whoami"], ASK["sources"]):
        faulty.faults.append(Fault(method="GET", path="", status=503, times=2))
        ask(shaky)


def test_a_mistake_of_ours_is_not_blamed_on_the_hub() -> None:
    with pytest.raises(ZeroDivisionError), hub_errors("https://huggingface.co"):
        print(1 / 0)
    with pytest.raises(ValueError, match="invalid literal"), hub_errors("https://huggingface.co"):
        print(int("one"))


# ---- rights --------------------------------------------------------------------------------------------------


def test_a_wrong_token_is_said_so(hub: RunningHub) -> None:
    for ask in ASK.values():
        with pytest.raises(TokenError, match="does not accept this token") as caught:
            ask(connect(hub.url, "hf_wrong12345"))
        assert caught.value.exit_code == 30


@pytest.mark.usefixtures("without_login")
def test_no_token_reads_but_does_not_write(hub: RunningHub, client: Hub) -> None:
    client.commit(REPO, files=dict(files()), parent=None, message="Add it", task=Log())
    anonymous = connect(hub.url)
    assert [s.repo_id for s in anonymous.sources("me")] == [REPO]
    assert anonymous.release(REPO).repo_id == REPO
    for ask in (ASK["commit"], ASK["whoami"]):
        with pytest.raises(TokenError) as caught:
            ask(anonymous)
        assert "HF_TOKEN" in caught.value.hint


def test_a_login_is_asked_for_where_it_would_be_used() -> None:
    assert "hf auth login" in no_token("https://huggingface.co").hint
    assert "hf auth login" not in no_token("https://hub.example").hint


@pytest.mark.server
def test_a_token_without_the_right_names_the_repo(tmp_path: Path) -> None:
    grants = {
        "hub_reader": Grant(name="reader", scope="read", namespaces=("me",)),
        "hub_writer": Grant(name="writer", scope="write", namespaces=("elsewhere",)),
    }
    with serve(tmp_path, tokens=grants) as running:
        for token in grants:
            with pytest.raises(TokenError, match=f"no right to do that in {REPO}"):
                put(connect(running.url, token))
            assert connect(running.url, running.token).record(REPO) is None


@pytest.mark.server
def test_a_repo_that_only_others_see_is_not_taken(tmp_path: Path) -> None:
    grant = {"hub_other": Grant(name="other", scope="write", namespaces=("other",))}
    with serve(tmp_path, tokens=grant) as running:
        connect(running.url, running.token).api.create_repo(REPO, private=True)
        other = connect(running.url, "hub_other")
        assert other.record(REPO) is None
        with pytest.raises(TokenError):
            put(other)


# ---- tokens --------------------------------------------------------------------------------------------------

TOKEN = "hf_averysecrettokenindeed"


@pytest.mark.usefixtures("at_once")
def test_a_token_is_in_no_text(faulty: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    echo = f"Invalid token {TOKEN}; Authorization: Bearer {TOKEN}".encode()
    hub = connect(faulty.url, TOKEN)
    assert TOKEN not in repr(hub)
    told_to_a_person: list[str] = []
    with caplog.at_level(logging.DEBUG):
        for status in (400, 401, 403, 404, 429, 500):
            faulty.faults = [Fault(method=m, path="", status=status, body=echo) for m in ("GET", "POST")]
            for ask in ASK.values():
                try:
                    ask(hub)  # no record is an answer, too
                except PhiBotError as error:
                    told_to_a_person.append(error.message + error.hint)
    assert len(told_to_a_person) >= 5 * len(ASK)
    assert TOKEN not in "".join(told_to_a_person)
    assert TOKEN not in caplog.text


def test_words_of_a_server_are_cut_to_a_plain_line() -> None:
    assert safe_line("a\r\n\tb\x1b[31m \u202e hf_abcdefgh") == "a b [31m hf_…"
    assert len(safe_line("x" * 10_000)) == 200


@pytest.mark.process
@pytest.mark.parametrize("login", ["variable", "file"])
def test_a_login_for_another_hub_is_not_sent(faulty: Proxy, tmp_path: Path, login: str) -> None:
    """The login file belongs to huggingface.co; HF_TOKEN to whatever Hub the person names."""
    (tmp_path / "token").write_text(TOKEN)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING_FACE"))}
    environment |= {"HF_TOKEN": TOKEN} if login == "variable" else {"HF_TOKEN_PATH": str(tmp_path / "token")}
    script = f"from bot.hub.client import connect; connect({faulty.url!r}).sources('me')"
    subprocess.run([sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL)
    sent = {headers.get("authorization") for _, _, headers in faulty.seen}
    assert sent == ({f"Bearer {TOKEN}"} if login == "variable" else {None})


def test_nothing_but_the_hub_itself_is_asked(faulty: Proxy, hub: RunningHub) -> None:
    """No telemetry, no look at who runs the program."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    script = f"from bot.hub.client import connect; connect({faulty.url!r}, {hub.token!r}).whoami()"
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert [path for _, path, _ in faulty.seen] == ["/api/whoami-v2"]
    assert re.match(r"phi-bot/\S+; hf_hub/\S+; python/\S+$", faulty.seen[0][2]["user-agent"])
    assert done.stdout == done.stderr == ""


# ---- addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    ["huggingface.co", "ftp://huggingface.co", "https://", "https://me:secret@hub.example", "http://h/?token=secret"],
)
def test_an_endpoint_that_is_not_an_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="is not the address of a Hub") as caught:
        connect(endpoint)
    assert "secret" not in caught.value.message + caught.value.hint


def test_the_endpoint_is_the_argument_or_the_variable_or_the_real_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")
    assert connect("http://127.0.0.1:1/").endpoint == "http://127.0.0.1:1"
    assert connect().endpoint == "https://hub.example"
    monkeypatch.delenv("HF_ENDPOINT")
    assert connect().endpoint == "https://huggingface.co"


def test_a_repo_has_an_address_for_people(hub: RunningHub, client: Hub) -> None:
    assert client.repo_url(REPO) == f"{hub.url}/{REPO}"
    assert client.whoami()
