"""Tables of ``phi-bot.toml``: where finished files go, and where that is said."""

from dataclasses import dataclass, field

from bot.config_file import key
from bot.config_tables import OWNER, OWNER_IN_WORDS
from bot.naming import TEMPLATE, objection

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"


@dataclass(frozen=True, kw_only=True)
class Publish:
    """Where finished files go, and how the repos there are named."""

    namespace: str | None = field(
        default=None,
        metadata=key(
            "The user or organisation to publish under. Needed for publishing, and for nothing else.",
            allowed=OWNER_IN_WORDS,
            rules={"pattern": OWNER},
            example="your-name",
        ),
    )
    repo: str = field(
        default=TEMPLATE,
        metadata=key(
            "How a repo is named: {name} is the model's name, {owner} whose the model is, {suffix} what the format "
            "adds (-GGUF, -mlx-4bit and so on). A repo that holds one model never gets another one of the same name: "
            '"{owner}-{name}{suffix}" keeps them apart. Another template publishes all anew, in other repos.',
            allowed="the name of a repo without its owner, with {name} and {suffix} in it, and {owner} or not",
            rules={"pattern": r"^[A-Za-z0-9._{}-]{1,96}$"},
            check=objection,
        ),
    )
    private: bool = field(default=False, metadata=key("Make new repos private.", allowed="true or false"))
    staging: str = field(
        default="phi-bot-staging",
        metadata=key(
            "The repo, in the same namespace, that `phi-bot stage` writes to and `phi-bot promote` publishes from.",
            allowed="the name of a repo, without its owner",
            rules={"pattern": _NAME},
        ),
    )
    trusted_publishers: bool = field(
        default=False,
        metadata=key(
            "Write with the tokens that the Hub gives a workflow for one repo at a time (Trusted Publishers), not with "
            "HF_TOKEN. Every repo has to be there already.",
            allowed="true or false",
        ),
    )
    state: str = field(
        default="phi-bot-state",
        metadata=key(
            "The dataset repo, in the same namespace, in which the bot keeps what failed and what it has seen.",
            allowed="the name of a repo, without its owner",
            rules={"pattern": _NAME},
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Reconvert:
    """What a pull request on GitHub may ask for."""

    models: tuple[str, ...] = field(
        default=(),
        metadata=key(
            "Models that the label convert:all converts from a pull request, for people to try on the Hub. "
            "convert:OWNER/NAME converts any other one.",
            allowed="a list of: owner/name of a model on the Hub",
            rules={"items": {"pattern": r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$"}},
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Announce:
    """Where a release is announced, beside the summary of the run."""

    repository: str | None = field(
        default=None,
        metadata=key(
            "The GitHub repository (owner/name) that gets an issue for every release, if GITHUB_TOKEN may write there.",
            allowed="owner/name",
            rules={"pattern": r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$"},
            example="your-name/phi-releases",
        ),
    )
    status_page: str | None = field(
        default=None,
        metadata=key(
            "Where people find the site that `phi-bot status` makes. Summaries and issues link to it.",
            allowed="an https:// address",
            rules={"pattern": r"^https://[^\s]+$"},
            example="https://your-name.github.io/phi-status/",
        ),
    )
