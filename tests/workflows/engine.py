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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.action import expressions
from tests.action.runner import Done, Runner
from tests.workflows.reading import OURS, ROOT, Job, Step, Workflow

SHA = "5" * 40  # the commit of the called workflow

_NEVER_MIND = {"name", "timeout-minutes", "permissions", "environment", "defaults", "concurrency"}
_JOB_KEYS = _NEVER_MIND | {"needs", "if", "runs-on", "strategy", "outputs", "steps", "uses", "with", "secrets"}


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
    """A run of a workflow of ours, called from a repository whose files are in ``repository``."""

    repository: Path
    workspaces: Path
    secrets: Mapping[str, Mapping[str, str]]  # by environment
    machine: Callable[[Path], Runner]  # a fresh runner with this workspace
    ended: list[Ended] = field(default_factory=list)
    artifacts: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def run(self, name: str, event: Mapping[str, Any], **given: object) -> list[Ended]:
        """Run a workflow and what it calls. Return how the jobs ended, in their order."""
        before = len(self.ended)
        self._workflow(name, {"event_name": event["name"], "event": event, "repository": "someone/phi"}, given)
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
            results = [needs[n]["result"] for n in needed]
            scope = _Scope(contexts=contexts, succeeded=all(r == "success" for r in results))
            ended = self._job(job, scope) if scope.holds(str(job.data.get("if", "success()"))) else []
            result = "skipped" if not ended else next((e.result for e in ended if e.result != "success"), "success")
            needs[job.id] = {"result": result, "outputs": ended[-1].outputs if ended else {}}
        results = [about["result"] for about in needs.values()]
        return "failure" if "failure" in results else "success"

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
        workspace = self.workspaces / f"{len(self.ended)}-{len(self.artifacts)}-{job.id}"
        workspace.mkdir(parents=True)
        runner = self.machine(workspace)
        contexts = {
            **contexts,
            "secrets": self.secrets.get(job.environment or "", {}),
            "runner": {"temp": str(runner.temp)},
            "job": {"workflow_sha": SHA, "workflow_repository": OURS},
            "steps": {},
        }
        scope = _Scope(contexts=contexts)
        uses: list[Done] = []
        for step in job.steps:
            if not scope.holds(str(step.data.get("if", "success()"))):
                continue
            outputs, fine = self._step(step, scope, runner, uses)
            scope.succeeded &= fine
            if "id" in step.data:
                contexts["steps"][step.data["id"]] = {"outputs": outputs}
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
            env = {"RUNNER_TEMP": str(runner.temp), "PATH": "/usr/bin:/bin"} | environment
            script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step.script]
            return {}, subprocess.run(script, cwd=runner.workspace, env=env, check=False, timeout=60).returncode == 0
        match step.uses.partition("@")[0]:
            case "actions/checkout" if given.get("path") == ".phi-bot":
                assert (given["repository"], given["ref"]) == (OURS, SHA)
            case "actions/checkout":
                assert given.keys() == {"persist-credentials"}
                shutil.copytree(self.repository, runner.workspace, dirs_exist_ok=True)
            case "actions/upload-artifact":
                file = Path(given["path"])
                assert given["name"] not in self.artifacts
                self.artifacts[given["name"]] = {file.name: file.read_bytes()}
            case "actions/download-artifact":
                for name in fnmatch.filter(self.artifacts, given["pattern"]):
                    folder = Path(given["path"], name)
                    folder.mkdir(parents=True)
                    for file_name, content in self.artifacts[name].items():
                        (folder / file_name).write_bytes(content)
            case "./.phi-bot":
                machine = dict(runner.environment)
                runner.environment |= environment
                done = runner.use(**{key.replace("-", "_"): value for key, value in given.items()})
                runner.environment = machine
                uses.append(done)
                return done.outputs, not done.failed
            case other:
                raise AssertionError(f"the action {other} is not known here")
        return {}, True


@dataclass(kw_only=True)
class _Scope:
    """What expressions see, and whether all before has succeeded."""

    contexts: Mapping[str, Any]
    succeeded: bool = True

    @property
    def _functions(self) -> expressions.Functions:
        return {
            "success": lambda: self.succeeded,
            "failure": lambda: not self.succeeded,
            "cancelled": lambda: False,
            "fromJSON": json.loads,
            "format": lambda text, *values: text.format(*values),
        }

    def holds(self, condition: str) -> bool:
        """Say whether a job or a step runs: where it asks for no status, only if all before has succeeded."""
        inner = condition.strip().removeprefix("${{").removesuffix("}}")
        asks = re.search(r"\b(success|failure|cancelled)\(", inner)
        return bool(expressions.evaluate(inner, self.contexts, self._functions)) and (bool(asks) or self.succeeded)

    def value(self, text: Any) -> Any:
        """Return a value of the file with its expressions replaced. One that is an expression keeps its kind."""
        if not isinstance(text, str):
            return text
        whole = re.fullmatch(r"\$\{\{(((?!\}\}).)*)\}\}", text.strip())
        if not whole:
            return expressions.fill_in(text, self.contexts, self._functions)
        return expressions.evaluate(whole[1], self.contexts, self._functions)

    def text(self, text: str) -> str:
        """Return a text with its expressions replaced, as an action or a script gets it."""
        return expressions.fill_in(text, self.contexts, self._functions)
