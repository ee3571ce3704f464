"""Executes workflows on this machine, as far as the pipeline needs it: jobs, matrices, artifacts, calls, secrets.

A job gets a workspace of its own, the secrets of its environment and the permission to do what its steps say. The
action is executed by tests/action. Whatever is not known here makes the test fail.
"""

import fnmatch
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.action import expressions
from tests.action.runner import Done, Runner, read_pairs
from tests.workflows.reading import OURS, ROOT, Job, Step, Workflow

SHA = "5" * 40  # the commit of a workflow that another repository calls

_NEVER_MIND = {"name", "timeout-minutes", "permissions", "environment", "defaults", "concurrency"}
_JOB_KEYS = _NEVER_MIND | {"needs", "if", "runs-on", "strategy", "outputs", "steps", "uses", "with", "secrets"}
_BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a job ended: ``result`` as GitHub names it, its outputs, and what each use of the action came to."""

    name: str
    result: str
    runs_on: object = None
    outputs: dict[str, str] = field(default_factory=dict)
    uses: tuple[Done, ...] = ()


@dataclass(kw_only=True)
class Engine:
    """GitHub, as far as a repository sees it that runs our workflows: as its own, or called from elsewhere.

    ``repository`` has a folder with the files of each ref. Artifacts stay from one run to the next.
    """

    repository: Path
    workspaces: Path
    secrets: Mapping[str, Mapping[str, str]]  # by environment
    machine: Callable[[Path], Runner]  # a fresh runner with this workspace
    name: str = "o/r"
    own: bool = False
    ended: list[Ended] = field(default_factory=list)
    artifacts: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def run(self, name: str, event: Mapping[str, Any], **given: object) -> list[Ended]:
        """Run a workflow and what it calls. Return how the jobs ended that ran, in their order."""
        before = len(self.ended)
        event = {"repository": {"full_name": self.name, "default_branch": "main"}, **event}
        github = {"event_name": event["name"], "event": event, "repository": self.name, "token": "a-token"}
        self._workflow(name, github, given)
        return self.ended[before:]

    def _workflow(self, name: str, github: Mapping[str, Any], given: Mapping[str, object]) -> str:
        workflow = Workflow.read(ROOT / ".github/workflows" / name)
        inputs = {
            key: about.get("default", "") for trigger, key, about in workflow.declared("inputs") if "call" in trigger
        }
        assert given.keys() <= inputs.keys()
        needs: dict[str, dict[str, Any]] = {}
        contexts = {"github": github, "inputs": {**inputs, **given}, "needs": needs, "true": True, "false": False}
        for job in workflow.jobs:
            assert job.data.keys() <= _JOB_KEYS, job.data.keys()
            needed = [job.data["needs"]] if isinstance(job.data.get("needs"), str) else job.data.get("needs", [])
            scope = _Scope(contexts=contexts, succeeded=all(needs[n]["result"] == "success" for n in needed))
            ended = self._job(job, scope) if scope.holds(str(job.data.get("if", "success()"))) else []
            result = "skipped" if not ended else next((e.result for e in ended if e.result != "success"), "success")
            needs[job.id] = {"result": result, "outputs": ended[-1].outputs if ended else {}}
        return "failure" if "failure" in [about["result"] for about in needs.values()] else "success"

    def _job(self, job: Job, scope: "_Scope") -> list[Ended]:
        if job.uses:
            assert job.calls is not None
            given = {key: scope.value(value) for key, value in job.data.get("with", {}).items()}
            return [Ended(name=job.id, result=self._workflow(job.calls, scope.contexts["github"], given))]
        entries = scope.value(job.data["strategy"]["matrix"])["include"] if "strategy" in job.data else [None]
        ended = [
            self._machine(job, {**scope.contexts, "matrix": entry, "strategy": {"job-index": str(index)}})
            for index, entry in enumerate(entries)
        ]
        self.ended += ended
        return ended

    def _machine(self, job: Job, contexts: Mapping[str, Any]) -> Ended:
        workspace = self.workspaces / f"{len(list(self.workspaces.glob('*')))}-{job.id}"
        workspace.mkdir(parents=True)
        runner = self.machine(workspace)
        event = runner.temp / "event.json"
        event.write_text(json.dumps(contexts["github"]["event"]), encoding="utf-8")
        runner.environment |= {"GITHUB_EVENT_PATH": str(event), "GITHUB_REPOSITORY": self.name}
        steps: dict[str, dict[str, Any]] = {}
        scope = _Scope(
            contexts={
                **contexts,
                "secrets": self.secrets.get(job.environment or "", {}),
                "runner": {"temp": str(runner.temp)},
                "job": {"workflow_sha": SHA, "workflow_repository": self.name if self.own else OURS},
                "steps": steps,
            }
        )
        uses: list[Done] = []
        for step in job.steps:
            if scope.holds(str(step.data.get("if", "success()"))):
                outputs, fine = self._step(step, scope, runner, uses)
                scope.succeeded &= fine
                steps[str(step.data.get("id"))] = {"outputs": outputs}
        return Ended(
            name=job.id,
            result="success" if scope.succeeded else "failure",
            runs_on=scope.value(job.data["runs-on"]),
            outputs={key: scope.text(text) for key, text in job.data.get("outputs", {}).items()},
            uses=tuple(uses),
        )

    def _step(self, step: Step, scope: "_Scope", runner: Runner, uses: list[Done]) -> tuple[dict[str, str], bool]:
        given = {key: scope.text(value) for key, value in step.inputs.items()}
        environment = {key: scope.text(value) for key, value in step.data.get("env", {}).items()}
        if step.script:
            return _script(step.script, environment, runner)
        match step.uses.partition("@")[0]:
            case "actions/checkout":
                self._check_out(given, runner.workspace)
            case "actions/upload-artifact":
                assert given["name"] not in self.artifacts
                self.artifacts[given["name"]] = _files(Path(given["path"]))
            case "actions/download-artifact":
                names = fnmatch.filter(self.artifacts, given["pattern"]) if "pattern" in given else [given["name"]]
                for name in names:  # with a pattern, each has a folder of its own
                    for path, content in self.artifacts[name].items():
                        file = Path(given["path"], name if "pattern" in given else "", path)
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_bytes(content)
            case "./.phi-bot" | "./":
                used = replace(runner, environment=runner.environment | environment)
                done = used.use(**{key.replace("-", "_"): value for key, value in given.items()})
                uses.append(done)
                return done.outputs, not done.failed
            case other:
                raise AssertionError(f"the action {other} is not known here")
        return {}, True

    def _check_out(self, given: Mapping[str, str], workspace: Path) -> None:
        assert given.keys() <= {"repository", "ref", "path", "lfs", "persist-credentials"}
        if given.get("repository", self.name) == self.name:
            folder = self.repository / given.get("ref", "main")
            shutil.copytree(folder, workspace / given.get("path", ""), dirs_exist_ok=True)
        else:
            assert (given["repository"], given["ref"], given["path"]) == (OURS, SHA, ".phi-bot")


def _script(script: str, environment: Mapping[str, str], runner: Runner) -> tuple[dict[str, str], bool]:
    file = runner.temp / "outputs"
    file.touch()
    env = {"PATH": "/usr/bin:/bin", "RUNNER_TEMP": str(runner.temp), "GITHUB_OUTPUT": str(file), **environment}
    done = subprocess.run([*_BASH, script], cwd=runner.workspace, env=env, check=False, timeout=60)
    return read_pairs(file.read_text(encoding="utf-8")), done.returncode == 0


def _files(path: Path) -> dict[str, bytes]:
    """Return what an artifact keeps of a path: the file, or what is below the folder."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@dataclass(kw_only=True)
class _Scope:
    """What expressions see, and whether all before has succeeded."""

    contexts: Mapping[str, Any]
    succeeded: bool = True

    def _evaluate(self, expression: str) -> Any:
        functions: expressions.Functions = {
            "success": lambda: self.succeeded,
            "failure": lambda: not self.succeeded,
            "cancelled": lambda: False,
            "fromJSON": json.loads,
            "format": lambda text, *values: text.format(*values),
            "join": lambda values, between: between.join(values),
            "contains": lambda inside, part: part in inside,
        }
        readable = re.sub(r"\[(\d+)\]", r".\1", expression).replace(".*.", ".each.")
        return expressions.evaluate(readable, _indexed(self.contexts), functions)

    def holds(self, condition: str) -> bool:
        """Say whether a job or a step runs: where it asks for no status, only if all before has succeeded."""
        inner = condition.strip().removeprefix("${{").removesuffix("}}")
        asks = re.search(r"\b(success|failure|cancelled)\(", inner)
        return bool(self._evaluate(inner)) and (bool(asks) or self.succeeded)

    def value(self, text: Any) -> Any:
        """Return a value of the file with its expressions replaced. One that is an expression keeps its kind."""
        whole = re.fullmatch(r"\$\{\{((?:(?!\}\}).)*)\}\}", text.strip()) if isinstance(text, str) else None
        if whole:
            return self._evaluate(whole[1])
        return self.text(text) if isinstance(text, str) else text

    def text(self, text: str) -> str:
        """Return a text with its expressions replaced, as an action or a script gets it."""
        return re.sub(r"\$\{\{(.*?)\}\}", lambda found: str(expressions.as_text(self._evaluate(found[1]))), text)


def _indexed(value: Any) -> Any:
    """Return a value whose lists have their members by number, and as ``each`` those of one key of all members."""
    if isinstance(value, Mapping):
        return {key: _indexed(inner) for key, inner in value.items()}
    if isinstance(value, list) and all(isinstance(inner, Mapping) for inner in value):
        keys = {key for inner in value for key in inner}
        numbered = {str(n): _indexed(inner) for n, inner in enumerate(value)}
        return {**numbered, "each": {key: [inner[key] for inner in value if key in inner] for key in keys}}
    return value
