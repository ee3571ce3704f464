"""Workflows as the rules see them: jobs, steps, triggers and rights, read from the YAML that GitHub reads."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
OURS = "phi-bot/phi-bot"  #: how the examples name this project
PATHS = (*sorted((ROOT / ".github/workflows").glob("*.yml")), *sorted(ROOT.glob("examples/*/.github/workflows/*.yml")))

#: What runs with the base's rights although a stranger started it.
PRIVILEGED_TRIGGERS = {"workflow_run", "pull_request_target", "issue_comment", "issues", "discussion", "fork", "watch"}

Mapping = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a job, as it stands in the file."""

    data: Mapping

    @property
    def uses(self) -> str:
        """What it uses, without the comment; empty for a script."""
        return str(self.data.get("uses", ""))

    @property
    def script(self) -> str:
        """What it runs; empty where it uses an action."""
        return str(self.data.get("run", ""))

    @property
    def inputs(self) -> dict[str, str]:
        """What it hands to the action, as the action gets it."""
        return {str(k): _text(v) for k, v in self.data.get("with", {}).items()}

    def is_of(self, action: str) -> bool:
        """Return whether it uses an action, at whatever commit."""
        return self.uses.partition("@")[0] == action

    @property
    def is_ours(self) -> bool:
        """Return whether it uses this project's action."""
        return self.uses in ("./", "./.phi-bot") or self.is_of(OURS)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job, by its id. ``calls`` is the workflow that it calls, if that is one of this project's."""

    id: str
    data: Mapping

    @property
    def steps(self) -> list[Step]:
        """Its steps; none where it calls a workflow."""
        return [Step(data=step) for step in self.data.get("steps", ())]

    @property
    def uses(self) -> str:
        """The workflow that it calls, or nothing."""
        return str(self.data.get("uses", ""))

    @property
    def calls(self) -> str | None:
        """The file name of the workflow of this project that it calls."""
        found = re.fullmatch(rf"(?:\$/|{OURS}/)\.github/workflows/([a-z]+\.yml)(?:@.+)?", self.uses)
        return found[1] if found else None

    @property
    def environment(self) -> str | None:
        """The name of its environment."""
        found = self.data.get("environment")
        return found["name"] if isinstance(found, dict) else found

    @property
    def permissions(self) -> dict[str, str]:
        """Its rights; what is not a mapping (``write-all``) is the right ``*``."""
        found = self.data.get("permissions", {})
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {"*": str(found)}

    @property
    def writes(self) -> set[str]:
        """The rights that change something, or stand for the job elsewhere."""
        return {name for name, right in self.permissions.items() if right not in ("read", "none")}

    @property
    def checkouts(self) -> list[Step]:
        """Its steps that fetch code."""
        return [step for step in self.steps if step.is_of("actions/checkout")]

    @property
    def text(self) -> str:
        """All of it, for a look at what it mentions."""
        return yaml.safe_dump(self.data, width=10_000)

    @property
    def secrets(self) -> set[str]:
        """The names of the secrets that it mentions; ``*`` where it hands on all of them."""
        every = {"*"} if self.data.get("secrets") == "inherit" or "toJSON(secrets" in self.text else set()
        return every | set(re.findall(r"\bsecrets\.([A-Za-z_]\w*)", self.text))


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A workflow: where it is, its text, and what YAML makes of it."""

    name: str
    text: str

    @classmethod
    def read(cls, path: Path) -> "Workflow":
        """Read a file of the project."""
        return cls(name=path.relative_to(ROOT).as_posix(), text=path.read_text(encoding="utf-8"))

    @cached_property
    def data(self) -> Mapping:
        """What the file says. (To YAML, the key ``on`` is the word for true.)"""
        found = yaml.safe_load(self.text)
        return {"on" if key is True else str(key): value for key, value in found.items()}

    @property
    def is_example(self) -> bool:
        """Return whether it is one that other repositories copy."""
        return self.name.startswith("examples/")

    @property
    def triggers(self) -> dict[str, Mapping]:
        """What starts it, with the details."""
        found = self.data["on"]
        named = dict.fromkeys([found] if isinstance(found, str) else found, None)
        return {name: (found[name] if isinstance(found, dict) else None) or {} for name in named}

    @property
    def jobs(self) -> list[Job]:
        """Its jobs."""
        return [Job(id=name, data=data) for name, data in self.data["jobs"].items()]

    def declared(self, kind: str) -> Iterator[tuple[str, str, Mapping]]:
        """Yield trigger, name and details of its inputs, secrets or outputs."""
        for trigger in ("workflow_call", "workflow_dispatch"):
            details = self.triggers.get(trigger) or {}
            for name, about in (details.get(kind) or {}).items():
                yield trigger, name, about or {}


def _text(value: object) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
