"""The machines that jobs may run on: the rows of runners.toml, those of phi-bot.toml, and the machine at hand."""

import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from bot.config import Config
from bot.config.machines import Accelerator, RunnerTable
from bot.devices import NONE, here
from bot.errors import ConfigError
from bot.records.artifacts import Record
from bot.system import machine
from bot.system.machine import Architecture, System

GB = 10**9
LOCAL = "local"
KINDS = ("local", "github", "hf-jobs", "own")

_FILE = Path(__file__).parent / "runners.toml"


@dataclass(frozen=True, kw_only=True)
class Runner(Record):
    """A kind of machine. ``memory``, ``disk`` and ``accelerator_memory`` are in bytes, ``price`` in US dollars an hour.

    ``name`` is ``KIND/NAME``, as in ``hf-jobs/cpu-basic``, or ``local``. ``labels`` are what ``runs-on`` of a GitHub
    workflow says. One that is not ``standing`` is there only where somebody made it.
    """

    name: str
    kind: Literal["local", "github", "hf-jobs", "own"]
    system: System
    architecture: Architecture
    cores: int
    memory: int
    disk: int
    accelerator: Accelerator = NONE
    accelerator_memory: int = 0
    price: float = 0.0
    labels: tuple[str, ...] = ()
    standing: bool = True

    @property
    def short_name(self) -> str:
        """``cpu-basic`` of ``hf-jobs/cpu-basic``: the flavor of a Job, or the label of a GitHub runner."""
        return self.name.rsplit("/", 1)[-1]


@cache
def built_in() -> tuple[Runner, ...]:
    """Return the rows of runners.toml, in the order of the file."""
    return tuple(_row(row) for row in tomllib.loads(_FILE.read_text(encoding="utf-8"))["runner"])


def known_runners(config: Config, *, flavors: Sequence[Runner] = ()) -> tuple[Runner, ...]:
    """Return the machine at hand, the person's own runners, and those that everybody knows.

    ``flavors`` are those that Hugging Face Jobs lists today (see bot/machines/hf_flavors.py); the built-in ones stand
    in for a list that could not be read.
    """
    own = (_own(name, runner) for name, runner in config.runner.items())
    rows = [r for r in built_in() if not (flavors and r.kind == "hf-jobs")]
    return (local(config.build.work, config.build.threads), *own, *rows, *flavors)


def chosen(runners: Sequence[Runner], wanted: Collection[str]) -> tuple[Runner, ...]:
    """Return the runners that ``wanted`` names: by their kind, by their own name, or all of them by ``any``.

    A kind means its standing runners. Raises ConfigError for a name of none.
    """
    for name in wanted:
        if name not in {"any", *KINDS} and name not in {r.name for r in runners}:
            raise ConfigError(
                f"there is no runner {name!r}",
                hint=f"Name one of {', '.join(KINDS)} or any, or a runner: {', '.join(r.name for r in runners)}.",
            )
    return tuple(r for r in runners if r.name in wanted or (r.standing and ("any" in wanted or r.kind in wanted)))


def local(work: Path, threads: int) -> Runner:
    """Return the machine at hand. Its disk is what is free where the unfinished work lies."""
    accelerator, accelerator_memory = here.accelerator()
    system, architecture = machine.system_and_architecture()
    return Runner(
        name=LOCAL,
        kind="local",
        system=system,
        architecture=architecture,
        cores=threads,
        memory=machine.memory(),
        disk=machine.free_disk(work),
        accelerator=accelerator,
        accelerator_memory=accelerator_memory,
    )


def _row(row: dict[str, Any]) -> Runner:
    kind, label = row["name"].split("/", 1)
    sizes = {k: row[k] * GB for k in ("memory", "disk", "accelerator_memory") if k in row}
    labels = [label] if kind == "github" else []
    return Runner.from_json(row | sizes | {"kind": kind, "labels": labels})


def _own(name: str, runner: RunnerTable) -> Runner:
    return Runner(
        name=f"own/{name}",
        kind="own",
        system=runner.system,
        architecture=runner.architecture,
        cores=runner.cores,
        memory=round(runner.memory * GB),
        disk=round(runner.disk * GB),
        accelerator=runner.accelerator,
        accelerator_memory=round(runner.accelerator_memory * GB),
        price=runner.price,
        labels=runner.labels or ("self-hosted", name),
    )
