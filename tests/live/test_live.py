"""Every call on the services of this machine: all of them, and each failing in turn."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from bot.config import Config
from bot.config.places import PublishTable
from bot.context import Context
from bot.github import client as github_client
from bot.hub import scratch
from bot.hub.client import Hub, connect
from bot.live.doctor import LiveDoctor
from bot.live.trials import Tried
from bot.localhub import RunningHub, serve
from bot.printable import json_text
from bot.progress import Silent
from bot.workspace import Workspace
from tests.github_server import Fault as Refusal
from tests.github_server import GitHub
from tests.github_server import serve as serve_github
from tests.hub.faulty import Fault, Proxy, proxy
from tests.hub.fixtures import trust
from tests.hub.issuer import Issuer
from tests.source import models

ME = "me"
MODELS = ("microsoft/Phi-4-mini-instruct", "microsoft/Phi-3.5-mini-instruct")

pytestmark = pytest.mark.server

#: The ways in which a call fails: an answer in place of the service's, and an answer that never arrives.
FAULTS: dict[str, dict[str, Any]] = {
    **{f"{status}": {"status": status} for status in (403, 404, 409, 412, 429, 500, 503)},
    "cut": {"cut": 0},
}


@dataclass(kw_only=True)
class Services:
    """A Hub and a GitHub on this machine, each behind a proxy that breaks what it is told to."""

    hub: RunningHub
    github: GitHub
    proxies: tuple[Proxy, Proxy]

    def __post_init__(self) -> None:
        self.straight = connect(self.hub.url, self.hub.token)

    @property
    def environ(self) -> dict[str, str]:
        return {"GITHUB_TOKEN": "a-token", "GITHUB_API_URL": self.proxies[1].url}

    def doctor(self, folder: Path, display: Silent, *only: str) -> LiveDoctor:
        """Return a run that has asked nothing yet."""
        config = replace(Config(), publish=PublishTable(namespace=ME))
        hub = connect(self.proxies[0].url, self.hub.token)
        context = Context(config=config, workspace=Workspace(root=folder), hub=hub, display=display)
        return LiveDoctor(context=context, namespace=ME, repository="o/r", only=only)

    def left(self) -> list[str]:
        """Return the scratch that is there, asked for past the proxy."""
        return scratch.leftovers(self.straight, ME)

    def clear(self) -> None:
        """Remove what a broken run left, and break nothing any more."""
        for one in self.proxies:
            one.faults.clear()
        for name in self.left():
            scratch.remove(self.straight, name)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, github_identity: Issuer) -> Iterator[Services]:
    """The services, with two models of Microsoft's, an issue of the bot's, and repos that trust a workflow."""
    with (
        pytest.MonkeyPatch.context() as patch,
        serve(tmp_path_factory.mktemp("live") / "hub") as hub,
        serve_github() as github,
        proxy(hub.url) as before_hub,
        proxy(github.url) as before_github,
    ):
        patch.setattr("os.fsync", lambda handle: None)
        for model in MODELS:
            publish(connect(hub.url, hub.token), model)
        api = HfApi(endpoint=hub.url, token=hub.token)
        api.create_repo(f"{ME}/phi-bot-staging")
        api.create_repo(f"{ME}/phi-bot-state", repo_type="dataset")
        for path in (f"{ME}/phi-bot-staging", f"datasets/{ME}/phi-bot-state"):
            trust(hub, path, github_identity)
        github.add({"title": "Phi-4", "labels": ["phi-bot"]})
        github.permissions["phi-bot"] = ("admin", "admin")
        yield Services(hub=hub, github=github, proxies=(before_hub, before_github))


def publish(hub: Hub, model: str) -> None:
    with Silent().task("") as task:
        hub.commit(model, files=dict(models.files()), parent=None, message="Release", task=task)


@pytest.fixture
def services(running: Services, workflow: Issuer, at_once: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """The services as a job of that workflow sees them."""
    for name, value in running.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(github_client, "_PAUSE", 0.0)
    yield running
    running.clear()


class Breaking(Silent):
    """Has every request of one trial fail, once it has made so many."""

    def __init__(self, services: Services, call: str, fault: dict[str, Any], *, after: int = 0) -> None:
        self.services, self.call, self.fault, self.after = services, call, fault, after

    @contextmanager
    def task(self, title: str) -> Iterator["Breaking"]:
        yield self

    def update(self, what: str, done: int, total: int, unit: str) -> None:
        for one in self.services.proxies:
            broken = [Fault(method="", path="", after=self.after, **self.fault)]
            one.faults[:] = broken if what == self.call else []


class Recording(Silent):
    """Remembers which functions of the client each trial used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = ""
        self.used: dict[str, Counter[str]] = {}
        for name in {n for n in vars(HfApi) if re.match("[a-z]", n) and callable(getattr(HfApi, n))}:
            monkeypatch.setattr(HfApi, name, self._noting(name, getattr(HfApi, name)))

    def _noting(self, name: str, call: Any) -> Any:
        def noted(*given: Any, **named: Any) -> Any:
            self.used.setdefault(self.now, Counter())[name] += 1
            return call(*given, **named)

        return noted

    @contextmanager
    def task(self, title: str) -> Iterator["Recording"]:
        yield self
        self.update("", 0, 0, "")

    def update(self, what: str, done: int, total: int, unit: str) -> None:
        self.now = what


ALL = [
    "token", "pages of a list", "list of an author", "read a model", "list of publications", "old scratch",
    "make a repo", "first commit", "upload a large file", "upload by LFS", "download", "download a part",
    "commit on a stale parent", "copy between repos", "state", "branch", "tag", "open a pull request",
    "merge a pull request", "close a pull request", "make a collection", "fill a collection", "list jobs",
    "list schedules and webhooks", "Trusted Publisher of me/phi-bot-staging",
    "Trusted Publisher of datasets/me/phi-bot-state", "GitHub: repository", "GitHub: account", "GitHub: issues",
    "GitHub: comments", "GitHub: pull requests", "GitHub: rights of an account",
    "GitHub: write issues and comments", "remove scratch",
]  # fmt: skip
NEVER = {"upload by LFS", "GitHub: write issues and comments"}  # no Xet on this Hub, and nothing is written on GitHub
BROKEN = [name for name in ALL if name not in NEVER]


def test_all_calls_do_what_they_should_and_nothing_stays(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = services.hub.requests.counts()
    recording = Recording(monkeypatch)
    doctor = services.doctor(tmp_path, recording)
    doctor.run()
    rows = {row.call: row for row in doctor.rows()}
    assert list(rows) == ALL
    assert {row.call: row.seen for row in rows.values() if row.status != "ok"} == {
        "upload by LFS": "Xet is not used here: the file before went up by LFS",
        "GitHub: write issues and comments": "the doctor writes nothing on GitHub; a run that may not goes on, "
        "and says so",
    }
    assert services.left() == []
    assert services.github.count("POST") == 0
    assert services.hub.requests.counts() != before
    assert "1 of them usable" not in rows["list of an author"].seen
    assert [Tried.from_json(json.loads(json_text(row.to_json()))) for row in rows.values()] == list(rows.values())
    for trial in (*doctor.trials, doctor.removing):
        if trial.name not in NEVER:
            assert set(trial.uses) <= set(recording.used.get(trial.name, ())), trial.name


def test_a_right_that_github_misses_is_named_as_github_names_it(services: Services, tmp_path: Path) -> None:
    headers = {"X-Accepted-GitHub-Permissions": "issues=read"}
    services.github.faults.append(Refusal(method="GET", path=".*/issues", status=403, headers=headers))
    doctor = services.doctor(tmp_path, Silent(), "GitHub: issues", "GitHub: pull requests")
    doctor.run()
    rows = {row.call: row for row in doctor.rows()}
    assert rows["GitHub: issues"].what_to_do == (
        "GITHUB_TOKEN needs the permission issues: read. Without this call, releases get no issue."
    )
    assert rows["GitHub: pull requests"].status == "ok"


def test_where_xet_is_used_a_large_file_goes_up_past_it_too(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This Hub has no Xet, which is turned off in the whole process; so only the way past it is seen here."""
    monkeypatch.setattr(scratch, "uses_xet", lambda: True)
    before = constants.HF_HUB_DISABLE_XET
    doctor = services.doctor(tmp_path, Silent(), "upload by LFS")
    doctor.run()
    assert [row.status for row in doctor.rows()] == ["ok"] * 5
    assert doctor.rows()[3].seen.startswith("by LFS: 300000 bytes, sha256:")
    assert before == constants.HF_HUB_DISABLE_XET


def test_what_is_tried_is_what_the_bot_calls() -> None:
    """Every function of the library's client that the rooms of the Hub use has a trial, or a reason."""
    used = set()
    for file in sorted(Path(scratch.__file__).parent.glob("*.py")):
        used |= set(re.findall(r"\bapi\.([a-z_]+)\(", file.read_text(encoding="utf-8")))
    tried = {name for trial in _trials() for name in trial.uses}
    assert used - tried == set(UNTRIED)
    assert not tried & set(UNTRIED)


#: What is never called by the doctor, and why.
UNTRIED = {
    "run_job": "costs money",
    "inspect_job": "there is no job",
    "fetch_job_logs": "there is no job",
    "create_scheduled_job": "would start jobs, which cost money",
    "delete_scheduled_job": "there is none of the doctor's own",
    "create_webhook": "starts a job, which costs money",
    "update_webhook": "there is none of the doctor's own",
    "delete_webhook": "there is none of the doctor's own",
}


def _trials() -> list[Any]:
    config = replace(Config(), publish=PublishTable(namespace=ME))
    hub = connect("http://127.0.0.1:1", "a-token")
    context = Context(config=config, workspace=Workspace(root=Path()), hub=hub, display=Silent())
    doctor = LiveDoctor(context=context, namespace=ME)
    return [*doctor.trials, doctor.removing]


def broken_run(
    services: Services, folder: Path, call: str, fault: str, *, after: int = 0
) -> tuple[dict[str, Tried], Tried, list[str]]:
    """Run a call and those that it needs, with one broken; return all rows, its own, and what is left on the Hub."""
    makers = ("copy between repos", "state", "make a collection")
    only = makers if call == "remove scratch" else (call,)
    doctor = services.doctor(folder, Breaking(services, call, FAULTS[fault], after=after), *only)
    doctor.run()
    for one in services.proxies:
        one.faults.clear()
    rows = {row.call: row for row in doctor.rows()}
    return rows, rows[call], services.left()


def check(rows: dict[str, Tried], broken: Tried, left: list[str]) -> None:
    """What holds of every failure: the row has an advice, nothing else failed, and what is left is named."""
    assert broken.status in ("failed", "note"), broken
    assert broken.what_to_do, broken
    assert "report it" not in broken.what_to_do, broken
    assert [row.call for row in rows.values() if row.status in ("failed", "note")] == [broken.call]
    if broken.call == "remove scratch":
        assert all(name in f"{broken.seen}{broken.what_to_do}" for name in left), broken
        assert all(name in broken.what_to_do for name in left), broken
    else:
        assert left == []


TURNS = [
    (call, list(FAULTS)[(3 * number + 5 * after) % len(FAULTS)], after)
    for number, call in enumerate(BROKEN)
    for after in (0, 1)
]


def play(services: Services, folder: Path, call: str, fault: str, after: int) -> None:
    rows, broken, left = broken_run(services, folder, call, fault, after=after)
    if after and broken.status == "ok":  # it makes no more requests than these
        assert left == []
    else:
        check(rows, broken, left)


@pytest.mark.parametrize(("call", "fault", "after"), TURNS)
def test_a_call_that_fails_has_a_row_with_advice_and_leaves_nothing(
    services: Services, tmp_path: Path, call: str, fault: str, after: int
) -> None:
    play(services, tmp_path, call, fault, after)


@pytest.mark.sweep
@pytest.mark.parametrize("after", [0, 1, 2, 3])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", BROKEN)
def test_every_call_that_fails_in_every_way_does(
    services: Services, tmp_path: Path, call: str, fault: str, after: int
) -> None:
    play(services, tmp_path, call, fault, after)
