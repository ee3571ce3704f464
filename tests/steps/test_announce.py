"""Where a run is announced."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.config import Config
from bot.config.places import AnnounceTable
from bot.hub import client
from bot.records.artifacts import Report
from bot.steps.announce import announce, announce_releases
from tests.contexts import context_of
from tests.github import test_release_issues as given
from tests.github_server import Fault, GitHub, serve
from tests.pages.status.examples import HUB


class Said:
    """A display that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def task(self, title: str) -> object:
        raise AssertionError(title)


REPORT = Report(publications=(given.GGUF,), failures=(given.FAILURE,))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    with serve() as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running


def say(settings: AnnounceTable, report: Report = REPORT) -> list[str]:
    said = Said()
    context = context_of(Config(announce=settings), hub=client.connect(HUB, None), display=said)  # type: ignore[arg-type]
    announce_releases(report, context, todo=given.PLAN, watched=given.SEEN)
    return said.lines


def test_a_release_is_announced_in_the_configured_repository(server: GitHub) -> None:
    assert say(AnnounceTable(repository="o/r")) == ["Announced in https://github.com/o/r/issues/1"]
    assert [issue["title"][:20] for issue in server.issues] == ["Phi-4-mini-instruct "]


def test_without_a_repository_github_is_not_asked(server: GitHub) -> None:
    assert say(AnnounceTable()) == []
    assert server.seen == []


def test_an_error_in_announcing_is_told_and_fails_nothing(server: GitHub) -> None:
    server.faults = [Fault(method="GET", path="/repos/o/r", status=401, message="Bad credentials")]
    (line,) = say(AnnounceTable(repository="o/r"))
    assert line.startswith("Not announced on GitHub: GitHub refused anything in o/r (401: Bad credentials)")


def test_the_summary_is_added_to_the_jobs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "summary.md"
    file.write_text("# Before\n\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    text = announce(REPORT, todo=given.PLAN, watched=given.SEEN)
    assert file.read_text() == f"# Before\n\n{text}\n"
    assert "max_jobs is 2" in text.replace("\\", "")
    assert "was not here before" in text
