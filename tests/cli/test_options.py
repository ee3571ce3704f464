"""What commands share: records in, and signs of life."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from bot.cli import cli
from bot.errors import RecordError
from bot.localhub import RunningHub
from bot.records.artifacts import Report
from bot.system import heartbeat


def test_the_output_of_an_earlier_step_can_come_by_standard_input() -> None:
    given = json.dumps(Report().to_json())
    done = CliRunner().invoke(cli, ["announce", "-", "--json"], input=given, catch_exceptions=False)
    assert (done.exit_code, list(json.loads(done.output))) == (0, ["markdown"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "standard input is not JSON: "),
        ("[]", "standard input is not a valid Report: "),
        ('{"failures": "many"}', "standard input is not a valid Report: "),
        (b"\xff", "standard input is not JSON: "),
    ],
)
def test_standard_input_that_is_not_a_record_is_named(given: str | bytes, words: str) -> None:
    with pytest.raises(RecordError) as refused:
        CliRunner().invoke(cli, ["announce", "-"], input=given, catch_exceptions=False)
    assert refused.value.message.startswith(words)


@contextmanager
def slow(url: str, seconds: float) -> Iterator[str]:
    """A relay in front of a server that lets every connection wait."""
    to = urlsplit(url)

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def serve(client: socket.socket) -> None:
        time.sleep(seconds)
        with closing(client), closing(socket.create_connection((to.hostname or "", to.port or 80))) as server:
            back = threading.Thread(target=pump, args=[server, client], daemon=True)
            back.start()
            pump(client, server)
            back.join()

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("command", ["watch", "plan", "run"])
def test_a_command_whose_hub_is_slow_says_that_it_is_still_there(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE", 0.3)
    with slow(hub.url, 1.0) as url:
        done = CliRunner().invoke(cli, [command, "nobody/nothing", "--endpoint", url])
    assert re.search(rf"^\S+ {command}; \d\.\d s so far$", done.stderr, re.MULTILINE), done.stderr
    assert "so far" not in done.stdout
