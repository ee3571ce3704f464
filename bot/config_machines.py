"""Tables of ``phi-bot.toml``: how much is done in a run, and on which machines."""

from dataclasses import dataclass, field

from bot.config_file import key
from bot.config_tables import OWNER, OWNER_IN_WORDS


@dataclass(frozen=True, kw_only=True)
class Planning:
    """How much is done in one run. What is over a bound is left for the next one, and said."""

    max_jobs: int | None = field(
        default=None,
        metadata=key(
            "Jobs a run begins at most; a job is a model in one format.",
            allowed="a whole number from 1 to 10000",
            rules={"minimum": 1, "maximum": 10000},
            example=20,
        ),
    )
    max_cost: float | None = field(
        default=None,
        metadata=key(
            "What the jobs of a run may cost together, in US dollars, by the estimates.",
            allowed="a number, 0 or above",
            rules={"minimum": 0},
            example=5.0,
        ),
    )
    max_jobs_per_model: int | None = field(
        default=None,
        metadata=key(
            "The same for each model: jobs.",
            allowed="a whole number from 1 to 10000",
            rules={"minimum": 1, "maximum": 10000},
            example=4,
        ),
    )
    max_cost_per_model: float | None = field(
        default=None,
        metadata=key(
            "The same for each model: US dollars.",
            allowed="a number, 0 or above",
            rules={"minimum": 0},
            example=1.0,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class HfJobs:
    """How `phi-bot run --on hf-jobs` and `phi-bot schedule install` start a phi-bot on Hugging Face Jobs."""

    image: str = field(
        default="python:3.12",
        metadata=key(
            "The container image, with a Python that phi-bot runs on, a C++ compiler and git.",
            allowed="the name of an image",
            rules={"pattern": r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$"},
        ),
    )
    setup: str = field(
        default="pip install -q phi-bot",
        metadata=key(
            "The shell command that makes phi-bot available in the image. Empty where it is there already.",
            allowed="one line for a shell",
            rules={"pattern": r"^[^\n\r\u0000]*$"},
        ),
    )
    namespace: str | None = field(
        default=None,
        metadata=key(
            "The user or organisation that pays for the jobs. Without it, the namespace of `publish`.",
            allowed=OWNER_IN_WORDS,
            rules={"pattern": OWNER},
            example="your-name",
        ),
    )
    time_factor: float = field(
        default=3.0,
        metadata=key(
            "A job is ended after so many times its estimated time, and no earlier than after 30 minutes.",
            allowed="a number from 1 to 100",
            rules={"minimum": 1, "maximum": 100},
        ),
    )


RUNNERS = key(
    "Machines of your own that jobs may be planned on, by names that you give them.",
    allowed="a name of letters, digits, - _ and ., at most 40",
    rules={"pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$"},
)


@dataclass(frozen=True, kw_only=True)
class OwnRunner:
    """A machine of your own, as a self-hosted or larger runner of GitHub. A plan may put jobs on own/NAME."""

    system: str = field(
        metadata=key(
            "Its operating system.",
            allowed='"linux", "macos" or "windows"',
            rules={"pattern": r"^(linux|macos|windows)$"},
            example="linux",
        ),
    )
    architecture: str = field(
        default="x86_64",
        metadata=key("Its processor.", allowed='"x86_64" or "arm64"', rules={"pattern": r"^(x86_64|arm64)$"}),
    )
    cores: int = field(
        metadata=key(
            "How many cores it has.",
            allowed="a whole number from 1 to 1024",
            rules={"minimum": 1, "maximum": 1024},
            example=16,
        ),
    )
    memory: float = field(
        metadata=key(
            "Its memory, in GB.",
            allowed="a number from 1 to 100000",
            rules={"minimum": 1, "maximum": 100000},
            example=64,
        ),
    )
    disk: float = field(
        metadata=key(
            "The disk that a job finds free, in GB.",
            allowed="a number from 1 to 1000000",
            rules={"minimum": 1, "maximum": 1000000},
            example=500,
        ),
    )
    accelerator: str = field(
        default="none",
        metadata=key("Its GPU.", allowed='"none", "nvidia" or "apple"', rules={"pattern": r"^(none|nvidia|apple)$"}),
    )
    accelerator_memory: float = field(
        default=0.0,
        metadata=key(
            "The memory of its GPU, in GB.",
            allowed="a number from 0 to 100000",
            rules={"minimum": 0, "maximum": 100000},
        ),
    )
    price: float = field(
        default=0.0,
        metadata=key(
            "What an hour on it costs, in US dollars.",
            allowed="a number from 0 to 10000",
            rules={"minimum": 0, "maximum": 10000},
        ),
    )
    labels: tuple[str, ...] = field(
        default=(),
        metadata=key(
            "What a workflow's `runs-on` says to get it. Without it, self-hosted and its name.",
            allowed="a list of labels",
            rules={"items": {"pattern": r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$"}},
        ),
    )
