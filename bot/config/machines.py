"""Tables of ``phi-bot.toml``: how much is done in a run, and on which machines."""

# ruff: noqa: RUF009 - a key is a field

from dataclasses import dataclass, field
from typing import Annotated

from bot import devices
from bot.config.file import key, key_metadata
from bot.config.tables import Owner
from bot.records.base import Record, bounds, named, pattern
from bot.system.machine import Architecture, System

Accelerator = Annotated[str, named(devices.accelerators)]
JobCount = Annotated[int, bounds(1, 10000)]
Dollars = Annotated[float, bounds(0)]
RunnerName = Annotated[
    str, pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", "a name of letters, digits, - _ and ., at most 40")
]
Label = Annotated[
    str, pattern(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", "a label of letters, digits, . _ : and -, at most 100")
]


@dataclass(frozen=True, kw_only=True)
class PlanTable(Record):
    """Bounds on the work of one run. Jobs over a bound are left for the next one, and named."""

    max_jobs: JobCount | None = key(None, "Jobs a run begins at most; a job is a model in one format.", example=20)
    max_cost: Dollars | None = key(
        None, "The most that the jobs of a run may cost together, in US dollars, by the estimates.", example=5.0
    )
    max_jobs_per_model: JobCount | None = key(None, "The same for each model: jobs.", example=4)
    max_cost_per_model: Dollars | None = key(None, "The same for each model: US dollars.", example=1.0)


@dataclass(frozen=True, kw_only=True)
class HfJobsTable(Record):
    """The way `phi-bot run --on hf-jobs` and `phi-bot schedule install` start a phi-bot on Hugging Face Jobs."""

    image: Annotated[str, pattern(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", "the name of an image")] = key(
        "python:3.12", "The container image, with a Python that phi-bot runs on, a C++ compiler and git."
    )
    setup: Annotated[str, pattern(r"[^\n\r\u0000]*", "one line for a shell")] = key(
        "pip install -q phi-bot",
        "The shell command that makes phi-bot available in the image. Empty where it is there already.",
    )
    namespace: Owner | None = key(
        None,
        "The user or organisation that pays for the jobs. Without it, the namespace of `publish`.",
        example="your-name",
    )
    time_factor: Annotated[float, bounds(1, 100)] = key(
        3.0, "A job is ended after so many times its estimated time, and no earlier than after 30 minutes."
    )


@dataclass(frozen=True, kw_only=True)
class RunnerTable(Record):
    """A machine of your own, as a self-hosted or larger runner of GitHub. A plan may put jobs on own/NAME."""

    system: System = field(metadata=key_metadata("Its operating system.", example="linux"))
    architecture: Architecture = key("x86_64", "Its processor.")
    cores: Annotated[int, bounds(1, 1024)] = field(metadata=key_metadata("How many cores it has.", example=16))
    memory: Annotated[float, bounds(1, 100000)] = field(metadata=key_metadata("Its memory, in GB.", example=64))
    disk: Annotated[float, bounds(1, 1000000)] = field(
        metadata=key_metadata("The disk that is free for a job, in GB.", example=500)
    )
    accelerator: Accelerator = key("none", "Its GPU.")
    accelerator_memory: Annotated[float, bounds(0, 100000)] = key(0.0, "The memory of its GPU, in GB.")
    price: Annotated[float, bounds(0, 10000)] = key(0.0, "Its price for an hour, in US dollars.")
    labels: tuple[Label, ...] = key(
        (), "The labels by which a workflow's `runs-on` gets it. Without them, self-hosted and its name."
    )
