"""Tables of ``phi-bot.toml``: where finished files go, and where that is said."""

# ruff: noqa: RUF009 - a key is a field

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from bot.catalogue.naming import TEMPLATE, objection
from bot.config.file import key
from bot.config.tables import Owner, check_home
from bot.records.base import Record, check, pattern

RepoTemplate = Annotated[
    str,
    check(objection),
    pattern(
        r"[A-Za-z0-9._{}-]{1,96}",
        "the name of a repo without its owner, with {name} and {suffix} in it, and {owner} or not",
    ),
]
RepoName = Annotated[str, pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", "the name of a repo, without its owner")]
ModelId = Annotated[
    str,
    pattern(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}", "owner/name of a model on the Hub"),
]
KeyFile = Annotated[Path, check(check_home), pattern(r"[^\u0000]+", "the path of a file")]


@dataclass(frozen=True, kw_only=True)
class SignTable(Record):
    """By what the statements of published files are signed. Without a key they are published unsigned."""

    key: KeyFile | None = key(
        None,
        "The file of an Ed25519 or ECDSA private key in PEM, without a passphrase; a relative path starts at the "
        "folder of this file. Without it, the environment variable PHI_BOT_SIGNING_KEY may hold the key itself.",
        example="~/.config/phi-bot/key.pem",
    )


@dataclass(frozen=True, kw_only=True)
class PublishTable(Record):
    """Where finished files go, and how the repos there are named."""

    namespace: Owner | None = key(
        None,
        "The user or organisation to publish under. Needed for publishing, and for nothing else.",
        example="your-name",
    )
    repo: RepoTemplate = key(
        TEMPLATE,
        "How a repo is named: {name} is the model's name, {owner} its owner, {suffix} the ending of the format "
        "(-GGUF, -mlx-4bit and so on). A repo that holds one model never gets another one of the same name: "
        '"{owner}-{name}{suffix}" keeps them apart. A new template publishes everything again, in other repos.',
    )
    private: bool = key(False, "Make new repos private.")
    staging: RepoName = key(
        "phi-bot-staging",
        "The repo, in the same namespace, that `phi-bot stage` writes to and `phi-bot promote` publishes from.",
    )
    trusted_publishers: bool = key(
        False,
        "Write with the tokens that the Hub gives a workflow for one repo at a time (Trusted Publishers), not with "
        "HF_TOKEN. Every repo has to be there already.",
    )
    state: RepoName = key(
        "phi-bot-state",
        "The dataset repo, in the same namespace, in which the bot keeps its failures and the models that it has seen.",
    )
    sign: SignTable = field(default_factory=SignTable)


@dataclass(frozen=True, kw_only=True)
class ReconvertTable(Record):
    """The models that a pull request on GitHub may ask for."""

    models: tuple[ModelId, ...] = key(
        (),
        "Models that the label convert:all converts from a pull request, for people to try on the Hub. "
        "convert:OWNER/NAME converts any other one.",
    )


@dataclass(frozen=True, kw_only=True)
class AnnounceTable(Record):
    """Where a release is announced, beside the summary of the run."""

    repository: Annotated[str, pattern(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}", "owner/name")] | None = (
        key(
            None,
            "The GitHub repository (owner/name) that gets an issue for every release, if GITHUB_TOKEN may write there.",
            example="your-name/phi-releases",
        )
    )
    status_page: Annotated[str, pattern(r"https://[^\s]+", "an https:// address")] | None = key(
        None,
        "Where people find the site that `phi-bot status` makes. Summaries and issues link to it.",
        example="https://your-name.github.io/phi-status/",
    )
