"""How often a Hub is asked again, how long is waited before, and what is never sent twice."""

import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from bot.errors import HubRefusedError, HubUnreachableError
from bot.hub import session
from bot.hub.client import Hub
from bot.hub.retry import LONGEST_ASKED, REPEATS, asked_to_wait, exactly_once, pause, say_waits
from tests.hub.faulty import Fault, Proxy
from tests.hub.fixtures import Log

REPO = "me/Phi-4"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each pause, which are left out."""
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have requests time out after a part of a second."""
    monkeypatch.setattr(session, "_SILENCE_SECONDS", 0.3)
    session.forget_connections()  # the next request is made by a client with that time-out
    yield
    session.forget_connections()


# ---- requests that are made again ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_question_is_asked_again_after_pauses_that_differ(
    shaky: Hub, faulty: Proxy, waits: list[float], status: int
) -> None:
    faulty.faults.append(Fault(method="GET", path="/api/whoami", status=status, times=REPEATS))
    assert shaky.whoami()
    assert len(set(waits)) == REPEATS
    assert all(0 <= w <= 2**n for n, w in enumerate(waits))


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(method="GET", path="", lose=True, times=2),
        Fault(method="GET", path="", cut=10, times=2),
        Fault(method="GET", path="", body=b'{"name": "m', headers={"Content-Type": "application/json"}, times=2),
    ],
    ids=["lost", "cut", "cut where nobody counts"],
)
def test_an_answer_that_does_not_arrive_whole_is_asked_for_again(shaky: Hub, faulty: Proxy, fault: Fault) -> None:
    faulty.faults.append(fault)
    assert shaky.whoami()
    assert faulty.count("GET", "/api/whoami") == 3


@pytest.mark.usefixtures("waits", "impatient")
@pytest.mark.parametrize("ask", ["whoami", "record", "release"])
def test_every_question_has_a_time_out(shaky: Hub, faulty: Proxy, client: Hub, ask: str) -> None:
    """The library switches them off for most of its calls."""
    client.api.create_repo(REPO)
    faulty.faults.append(Fault(method="GET", path="", stall=0))
    started = time.monotonic()
    with pytest.raises(HubUnreachableError, match="did not answer in time"):
        getattr(shaky, ask)(*([] if ask == "whoami" else [REPO]))
    assert time.monotonic() - started < 10
    assert len(faulty.seen) == REPEATS + 1


@pytest.mark.usefixtures("waits")
def test_a_hub_that_goes_on_failing_is_asked_so_often_and_no_more(shaky: Hub, faulty: Proxy) -> None:
    """The library tries lists again, too; that must not multiply ours."""
    faulty.faults.append(Fault(method="GET", path="/api/models", status=503))
    with pytest.raises(HubRefusedError, match="failed with status 503"):
        shaky.check()
    assert len(faulty.seen) == REPEATS + 1


def test_a_hub_that_starts_anew_is_waited_for() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    def start() -> None:
        with socket.create_server(("127.0.0.1", port)) as server:
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"name": "me"}')

    timer = threading.Timer(0.2, start)
    timer.start()
    from bot.hub.client import connect

    try:
        assert connect(f"http://127.0.0.1:{port}", "hf_secret").whoami() == "me"
    except HubUnreachableError:  # the pauses happened to be short
        pytest.skip("the pauses were over before the Hub was there")
    finally:
        timer.join()


# ---- what a Hub asks for -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "55"}, 55),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"ratelimit": '"api";r=0;t=55'}, 55),
        ({"ratelimit": '"api";r=3;t=55'}, 0),
        ({"ratelimit": '"api";r=7;t=300, "resolvers"; r=0; t=20'}, 20),
        ({"ratelimit": '"api";r=0;t=55', "retry-after": "70"}, 70),
        ({"ratelimit": "rubbish"}, 0),
        ({}, 0),
    ],
)
def test_every_form_of_a_requested_wait_is_understood(headers: dict[str, str], seconds: float) -> None:
    assert asked_to_wait(headers) == seconds


def test_a_date_is_a_time_to_wait_until() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert asked_to_wait({"retry-after": in_a_minute}) == pytest.approx(60, abs=2)


def test_a_hub_that_asks_to_wait_is_given_that_time(shaky: Hub, faulty: Proxy, waits: list[float]) -> None:
    faulty.faults.append(Fault(method="GET", path="", status=429, headers={"Retry-After": "55"}, times=1))
    said: list[str] = []
    say_waits(said.append)
    assert shaky.whoami()
    assert 55 <= sum(waits) < 60
    assert [line.split(": ")[0] for line in said] == [f"{faulty.url} asks to slow down"]


def test_after_the_last_request_that_is_left_the_next_one_waits(shaky: Hub, faulty: Proxy, waits: list[float]) -> None:
    left = {"RateLimit": '"api";r=0;t=55', "Content-Type": "application/json"}
    faulty.faults.append(Fault(method="GET", path="", status=200, body=b'{"name": "me"}', headers=left, times=1))
    shaky.whoami()
    assert waits == []
    shaky.check()  # whose token it is is known by now
    assert 54 <= sum(waits) < 60


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_hub_that_asks_for_hours_is_not_waited_for(
    shaky: Hub, faulty: Proxy, waits: list[float], method: str
) -> None:
    """The library would: it knows no bound."""
    asked = {"Retry-After": str(int(LONGEST_ASKED) + 3600)}
    faulty.faults.append(Fault(method=method, path="", status=429, headers=asked))
    with pytest.raises(HubRefusedError, match="asks to wait 3930 seconds") as caught:
        shaky.commit(REPO, files={"a.bin": bytes(1000)}, parent=None, message="Add it", task=Log())
    assert caught.value.hint.startswith("Run the same command again in 66 minutes")
    assert waits == []


# ---- what changes something ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("waits")
def test_a_request_with_an_effect_is_repeated_only_if_it_was_refused(shaky: Hub, faulty: Proxy, client: Hub) -> None:
    client.api.create_repo(REPO)

    def open_one() -> None:
        shaky.api.create_discussion(REPO, title="Failed")

    faulty.faults.append(Fault(method="POST", path="/discussions", status=429, times=2))
    open_one()
    assert faulty.count("POST", "/discussions") == 3
    faulty.faults.append(Fault(method="POST", path="/discussions", status=503, times=1))
    with pytest.raises(Exception, match="503"):
        open_one()
    assert faulty.count("POST", "/discussions") == 4


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("fault", ["lose", "refuse"])
def test_once_looks_whether_it_landed(shaky: Hub, faulty: Proxy, client: Hub, fault: str) -> None:
    client.api.create_repo(REPO)
    lost = Fault(method="POST", path="/discussions", lose=True, times=1)
    refused = Fault(method="POST", path="/discussions", status=502, times=2)
    faulty.faults.append(lost if fault == "lose" else refused)

    def find() -> int | None:
        return next((d.num for d in shaky.api.get_repo_discussions(REPO) if d.title == "Failed"), None)

    number = exactly_once(lambda: shaky.api.create_discussion(REPO, title="Failed").num, find)
    assert [d.num for d in client.api.get_repo_discussions(REPO)] == [number]


@pytest.mark.usefixtures("waits")
def test_once_raises_certain_errors_and_stops_where_nobody_knows() -> None:
    def refuse() -> int:
        raise HubRefusedError("no", hint="no")

    with pytest.raises(HubRefusedError, match=r"^no$"):
        exactly_once(refuse, lambda: 1)

    import httpx2

    sent: list[int] = []

    def lose() -> int:
        sent.append(1)
        raise httpx2.ReadTimeout("no answer")

    def nobody_knows() -> int | None:
        raise HubUnreachableError("gone", hint="")

    with pytest.raises(HubUnreachableError, match="gone"):
        exactly_once(lose, nobody_knows)
    assert len(sent) == 1
    with pytest.raises(httpx2.ReadTimeout):
        exactly_once(lose, lambda: None)
    assert len(sent) == 1 + REPEATS + 1


def test_pauses_grow_and_end_at_half_a_minute() -> None:
    assert max(pause(0) for _ in range(100)) <= 1
    assert 10 < max(pause(9) for _ in range(100)) <= 30
