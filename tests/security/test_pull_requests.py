"""A stranger's pull request changes the lock, the template, what it says of itself; and what its workflow could be."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.github import client, open_repository, put_comment
from bot.localhub import RunningHub
from bot.progress import Silent
from bot.reconvert import approval
from bot.reconvert.approval import Approval
from bot.reconvert.cards import difference
from bot.reconvert.child import code_of
from bot.reconvert.compare import ComparisonRequest, compare_code
from bot.reconvert.records import COMPARISON_VERSION, CardDiff, Comparison
from bot.reconvert.render import MARKER, render
from bot.workspace import Workspace
from tests.github_server import GitHub, serve
from tests.page_reader import ROOT
from tests.reconvert.trees import change, checkout
from tests.steps import proven
from tests.workflows.reading import PATHS, PRIVILEGED_TRIGGERS, Workflow
from tests.workflows.rules import ENVIRONMENTS, KEYS, SECRETS

WORKFLOWS = [Workflow.read(path) for path in PATHS]
HASH = "0" * 64


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    monkeypatch.setattr(client, "_PAUSE", 0.0)
    with serve() as running:
        yield running


# ---- its code ----------------------------------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.parametrize(
    "line",
    [
        f"--index-url https://evil.example/simple\nevil==1.0 --hash=sha256:{HASH}",
        f"--extra-index-url=https://evil.example/simple --hash=sha256:{HASH}",
        "evil==1.0",
        f"evil @ https://evil.example/evil-1.0.whl --hash=sha256:{HASH}",
        f"git+https://evil.example/evil --hash=sha256:{HASH}",
        f"-r https://evil.example/more.txt --hash=sha256:{HASH}",
        f"-e . --hash=sha256:{HASH}",
    ],
)
def test_a_lock_that_names_something_else_than_pinned_packages(tmp_path: Path, line: str) -> None:
    """Nothing is installed from it: the head's own code refuses it, and the comparison says so."""
    head = checkout(tmp_path / "head")
    with (head / "bot/formats/gguf/lock.txt").open("a") as file:
        file.write(f"{line}\n")
    found = compare_code(
        ROOT, head, ComparisonRequest(canary=False), workspace=Workspace(root=tmp_path / "work"), display=Silent()
    )
    assert "has no exact version or no sha256" in found.problem
    assert found.rows == ()


@pytest.mark.process
def test_a_template_that_runs_code_finds_no_token(
    hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Templates are the project's code, so a stranger's are run where its code is: in a process without a token."""
    for name in ("HF_TOKEN", "GITHUB_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_RUNTIME_TOKEN"):
        monkeypatch.setenv(name, "the-canary")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    artifact = proven.artifact(tmp_path / "artifacts", proven.release(hub))
    head = checkout(tmp_path / "head")
    escape = "{{ cycler.__init__.__globals__.os.environ | string | replace(',', ' ') }}"
    change(head, "templates/_card.md.j2", "## Measurements", f"## What was measured\n\nfound: {escape}")
    found = difference("gguf", code_of(ROOT), code_of(head), Path(artifact.folder), namespace="demo")
    assert found.problem == ""
    (line,) = [line for line in found.diff.splitlines() if line.startswith("+found: ")]
    assert "PATH" in line, "the template did not run"
    assert "the-canary" not in line
    assert str(tmp_path / "home") not in line


# ---- what it says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["problem", "notes", "diff"])
def test_a_comparison_that_holds_an_approval_approves_nothing(server: GitHub, place: str) -> None:
    """Its comment is by the bot itself, whose notes of approval are comments too."""
    note = json.dumps(Approval(head="a" * 40, models=("microsoft/Phi-9",), by="maintainer").to_json())
    text = f"x\n<!-- phi-bot: comment convert -->\n<!-- phi-bot: approved {note} -->\n"
    found = Comparison(
        version=COMPARISON_VERSION,
        kind="code",
        problem=text if place == "problem" else "",
        notes=(text,) if place == "notes" else (),
        cards=(CardDiff(format="gguf", diff=f"```\n{text}"),) if place == "diff" else (),
    )
    repository = open_repository("o/r", server.environ)
    put_comment(repository, 7, MARKER, render(found))
    (comment,) = server.comments[7]
    assert "approved" in comment["body"]
    assert approval.approval_of(repository, 7) is None


# ---- its workflows -----------------------------------------------------------------------------------------------


def test_a_stranger_starts_nothing_with_rights_but_one_workflow() -> None:
    started = {w.name: set(w.triggers) & PRIVILEGED_TRIGGERS for w in WORKFLOWS}
    assert {name: found for name, found in started.items() if found} == {
        ".github/workflows/candidates.yml": {"workflow_run", "pull_request_target"}
    }


#: What of an event may reach a step that has rights: numbers, commits, and the name of our own branch. Not what people
#: write: titles, branches, labels, names of repositories.
KNOWN = {
    "github.event.repository.default_branch",
    "github.event.workflow_run.id",
    "github.event.workflow_run.head_sha",
    "github.event.workflow_run.pull_requests[0].number",
    "github.event.pull_request.number",
}


@pytest.mark.parametrize(
    "workflow", [w for w in WORKFLOWS if set(w.triggers) & PRIVILEGED_TRIGGERS], ids=lambda w: w.name
)
def test_nothing_that_people_write_reaches_a_step_with_rights(workflow: Workflow) -> None:
    steps = "\n".join(json.dumps(step.data) for job in workflow.jobs for step in job.steps)
    used = set(re.findall(r"github\.(?:event\.[\w.\[\]*-]+|head_ref|ref_name|ref)", steps))
    assert used
    assert used <= KNOWN


@pytest.mark.parametrize(
    "workflow", [w for w in WORKFLOWS if "pull_request" in w.triggers and not w.is_example], ids=lambda w: w.name
)
def test_a_fork_that_edits_a_workflow_gains_nothing_that_the_file_gave(workflow: Workflow) -> None:
    """To a fork's workflow GitHub gives at most read rights and no secret. What is left is what lies around here.

    Were a secret of the repository named anywhere, or a machine of our own, an edited copy could reach for it.
    """
    for job in workflow.jobs:
        assert job.secrets == set()
        assert job.environment is None
        assert "self-hosted" not in str(job.data.get("runs-on"))
        forks = "head.repo.full_name == github.repository" not in str(job.data.get("if", ""))
        assert not (forks and job.writes)


def test_every_secret_is_behind_an_environment() -> None:
    """So a workflow on a branch, of somebody who may write here, passes the rules of that environment, or has none."""
    for workflow in (w for w in WORKFLOWS if not w.is_example):
        for job in workflow.jobs:
            if job.steps and job.secrets:
                assert job.environment in SECRETS
                assert SECRETS[job.environment] in job.secrets
                assert job.secrets <= {held[job.environment] for held in (SECRETS, KEYS) if job.environment in held}
            if job.environment:
                assert job.environment in ENVIRONMENTS


@pytest.mark.parametrize("workflow", [w for w in WORKFLOWS if not w.is_example], ids=lambda w: w.name)
def test_no_job_that_reads_models_can_publish(workflow: Workflow) -> None:
    """Its identity, where it has one, is that of the environment for staging: what no public repo trusts."""
    for job in workflow.jobs:
        builds = [s for s in job.steps if s.is_ours and s.inputs.get("command", "run") in ("run", "compare")]
        if builds:
            assert job.environment in (None, "stage")
            assert job.writes <= {"id-token"}
            assert job.environment == "stage" or not job.writes
