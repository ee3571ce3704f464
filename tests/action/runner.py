"""Executes the steps of a composite action as GitHub's runner does, on this machine.

``run`` steps are executed by their shell, with the environment files that a runner gives each step. ``uses`` steps are
replaced by what the few actions that are known here would do. Whatever is not known makes the test fail: a key, an
expression, an action, an input.
"""

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.action import expressions
from tests.action.log import Command, commands, lines_of

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "action.yml"
FILES = ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_STEP_SUMMARY")
_LARGEST_SUMMARY = 1024 * 1024
_SHELLS = {"bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"]}
_KEYS = {"name", "id", "if", "shell", "run", "uses", "with", "env"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that ran or was left out (``outcome`` is skipped): its name, what it printed and set, how it ended."""

    name: str
    outcome: str
    log: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    code: int = 0


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a use of the action came to. ``saved`` are keys and paths of caches, ``wanted`` those that were missed."""

    steps: tuple[Step, ...]
    outputs: dict[str, str]
    summary: str
    wanted: tuple[tuple[str, str], ...]
    saved: tuple[tuple[str, str], ...]

    @property
    def failed(self) -> bool:
        """True if a step failed."""
        return any(step.outcome == "failure" for step in self.steps)

    @property
    def code(self) -> int:
        """The exit code of the last step that ran."""
        return [step.code for step in self.steps if step.outcome != "skipped"][-1]

    @property
    def log(self) -> str:
        """What all steps printed."""
        return "".join(step.log for step in self.steps)

    @property
    def commands(self) -> list[Command]:
        """The commands that the runner carried out, of all steps."""
        return [command for step in self.steps for command in commands(step.log)]

    @property
    def errors(self) -> list[Command]:
        """The annotations that say an error."""
        return [command for command in self.commands if command.name == "error"]

    @property
    def outcomes(self) -> dict[str, str]:
        """How each step ended, by its name."""
        return {step.name: step.outcome for step in self.steps}


@dataclass(kw_only=True)
class Runner:
    """A machine of GitHub's, between the steps of one job."""

    temp: Path
    workspace: Path
    environment: dict[str, str]
    saved: list[tuple[str, str]] = field(default_factory=list)  # what GitHub's cache holds: key and paths
    _wanted: list[tuple[str, str]] = field(default_factory=list)

    def use(self, /, **given: str) -> Done:
        """Use the action, with inputs whose hyphens are underscores."""
        action: dict[str, Any] = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
        values = {name.replace("_", "-"): value for name, value in given.items()}
        unknown = set(values) - set(action["inputs"])
        assert not unknown, f"the action has no input {unknown}"
        inputs = {name: values.get(name, row.get("default", "")) for name, row in action["inputs"].items()}
        assert set(action["runs"]) == {"using", "steps"}
        assert action["runs"]["using"] == "composite"
        scope = _Scope(inputs=inputs)
        self._wanted, before = [], list(self.saved)
        for step in action["runs"]["steps"]:
            assert set(step) <= _KEYS, f"a step has keys that are not known here: {set(step) - _KEYS}"
            scope.steps.append(self._step(step, scope))
        outputs = {name: scope.fill_in(row["value"]) for name, row in action["outputs"].items()}
        return Done(
            steps=tuple(scope.steps),
            outputs=outputs,
            summary="".join(scope.summaries),
            wanted=tuple(self._wanted),
            saved=tuple(entry for entry in self.saved if entry not in before),
        )

    def _step(self, step: Mapping[str, Any], scope: "_Scope") -> Step:
        if not scope.holds(step.get("if", "success()")):
            return Step(name=step["name"], outcome="skipped")
        environment = {name: scope.fill_in(value) for name, value in step.get("env", {}).items()}
        if "uses" in step:
            assert set(step) <= _KEYS - {"run", "shell"}
            done = self._used(step, {name: scope.fill_in(str(value)) for name, value in step["with"].items()})
        else:
            done = self._script(step, environment, scope)
        if "id" in step:
            scope.outputs[step["id"]] = {"outputs": done.outputs, "outcome": done.outcome, "conclusion": done.outcome}
        return done

    def _used(self, step: Mapping[str, Any], given: Mapping[str, str]) -> Step:
        """Do what an action of another repository would do here."""
        name, _, commit = step["uses"].partition("@")
        assert len(commit) == 40, "it is pinned to a commit"
        outputs: dict[str, str] = {}
        match name:
            case "actions/setup-python":
                assert set(given) == {"python-version", "update-environment"}
                outputs = {"python-path": sys.executable, "python-version": given["python-version"]}
            case "actions/cache/restore":
                assert set(given) == {"key", "path"}
                entry = (given["key"], given["path"])
                if entry in self.saved:
                    outputs = {"cache-hit": "true"}
                else:
                    self._wanted.append(entry)
            case "actions/cache/save":
                assert set(given) == {"key", "path"}
                assert all(Path(path).is_dir() for path in given["path"].splitlines())
                self.saved.append((given["key"], given["path"]))
            case other:
                raise AssertionError(f"the action {other} is not known here")
        return Step(name=step["name"], outcome="success", outputs=outputs)

    def _script(self, step: Mapping[str, Any], environment: Mapping[str, str], scope: "_Scope") -> Step:
        folder = self.temp / "_runner_file_commands"
        folder.mkdir(exist_ok=True)
        number = uuid.uuid4().hex
        files = {name: folder / f"{name.lower()}_{number}" for name in FILES}
        for file in files.values():
            file.touch()
        script = self.temp / f"{number}.sh"
        script.write_text(step["run"], encoding="utf-8")
        env = self.machine() | {name: str(file) for name, file in files.items()} | dict(environment)
        done = subprocess.run(
            [*_SHELLS[step["shell"]], str(script)],
            cwd=self.workspace,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=600,
        )
        for name in ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE"):
            assert files[name].read_text(encoding="utf-8") == "", "the steps behind this one are left as they were"
        summary = files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")
        assert len(summary.encode()) <= _LARGEST_SUMMARY
        scope.summaries.append(summary)
        return Step(
            name=step["name"],
            outcome="success" if done.returncode == 0 else "failure",
            log=done.stdout,
            outputs=read_pairs(files["GITHUB_OUTPUT"].read_text(encoding="utf-8")),
            environment=env,
            code=done.returncode,
        )

    def machine(self) -> dict[str, str]:
        """Return the environment that every step has."""
        kept = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")
        index = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        return (
            {name: os.environ[name] for name in kept if name in os.environ}
            | index
            | {
                "CI": "true",
                "GITHUB_ACTIONS": "true",
                "GITHUB_ACTION_PATH": str(ROOT),
                "GITHUB_REPOSITORY": "someone/fine-tune",
                "GITHUB_WORKSPACE": str(self.workspace),
                "RUNNER_OS": "Linux",
                "RUNNER_TEMP": str(self.temp),
            }
            | self.environment
        )


@dataclass(kw_only=True)
class _Scope:
    """What expressions see while the steps of one use go by."""

    inputs: dict[str, str]
    steps: list[Step] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    summaries: list[str] = field(default_factory=list)

    @property
    def _succeeded(self) -> bool:
        return all(step.outcome != "failure" for step in self.steps)

    @property
    def _functions(self) -> expressions.Functions:
        return {
            "success": lambda: self._succeeded,
            "failure": lambda: not self._succeeded,
            "always": lambda: True,
            "cancelled": lambda: False,
        }

    @property
    def _contexts(self) -> dict[str, Any]:
        return {"inputs": self.inputs, "steps": self.outputs}

    def holds(self, condition: str) -> bool:
        """Say whether a step runs. Without a function that asks for a status, all before it must have succeeded."""
        condition = condition.removeprefix("${{").removesuffix("}}")
        value = expressions.evaluate(condition, self._contexts, self._functions)
        asks = any(f"{name}(" in condition for name in self._functions)
        return bool(value) and (asks or self._succeeded)

    def fill_in(self, text: str) -> str:
        """Return a text with its expressions replaced."""
        return expressions.fill_in(text, self._contexts, self._functions)


def read_pairs(text: str) -> dict[str, str]:
    """Read a file of outputs as the runner does: NAME=VALUE, or NAME<<WORD and lines up to one that is WORD."""
    found: dict[str, str] = {}
    lines = iter(lines_of(text))
    for line in lines:
        name, equals, value = line.partition("=")
        head, heredoc, word = line.partition("<<")
        if heredoc and (not equals or len(head) < len(name)):
            body: list[str] = []
            for inner in lines:
                if inner == word:
                    break
                body.append(inner)
            else:
                raise AssertionError(f"the value of {head} has no end")
            found[head] = "\n".join(body)
        elif equals:
            found[name] = value
        else:
            assert not line, f"not of the form of an output: {line!r}"
    return found
