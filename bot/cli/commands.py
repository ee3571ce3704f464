"""The commands by their headings, each with the module that defines it, which is imported when it is asked for.

A command line is a process, and most of its time would go into what other commands import.
"""

import importlib
from collections.abc import Iterator, MutableMapping
from typing import NamedTuple

import click


class Row(NamedTuple):
    """One command: its name, the module of ``bot.cli`` and its name there, and the first sentence of its help."""

    name: str
    module: str
    attribute: str
    sentence: str


GROUPS: dict[str, tuple[Row, ...]] = {
    "Main job": (Row("run", "run", "run_command", "Do the main job: watch, plan, build, verify, publish, announce."),),
    "Steps of the main job": (
        Row(
            "watch",
            "plan",
            "watch_command",
            "List the sources of the configured authors, or the named ones, and what is new about each.",
        ),
        Row(
            "plan",
            "plan",
            "plan_command",
            "List what has to be built, on which machine, at what cost, and what is already published.",
        ),
        Row(
            "build",
            "steps",
            "build_command",
            "Build the jobs of a plan, or the variants of models, and print the artifacts' folders.",
        ),
        Row(
            "verify",
            "steps",
            "verify_command",
            "Load artifacts in their own runtime and compare them with the original.",
        ),
        Row(
            "publish", "steps", "publish_command", "Publish proven artifacts: one commit a repo, with card and record."
        ),
        Row(
            "announce",
            "steps",
            "announce_command",
            "Print the summary of a run as Markdown; on GitHub Actions it is added to the job's summary too.",
        ),
        Row(
            "stage",
            "steps",
            "stage_command",
            "Put proven artifacts into the staging repo, from which `phi-bot promote` publishes them.",
        ),
        Row(
            "promote",
            "steps",
            "promote_command",
            "Check staged artifacts and publish them: the Hub copies the files, and no model is read here.",
        ),
    ),
    "Operating the bot": (
        Row("init", "tools", "init_command", "Write a phi-bot.toml in which every key is explained."),
        Row(
            "status",
            "status",
            "status_command",
            "Make the status page: a static site with the state of every model in every format.",
        ),
        Row("retry", "state", "retry_command", "Forget failures, so that the next run tries again."),
        Row("pause", "state", "pause_command", "Stop the bot on every machine: a run begins nothing new, and ends."),
        Row("resume", "state", "resume_command", "Let the bot go on after `phi-bot pause`."),
        Row(
            "clean",
            "clean",
            "clean_command",
            "Remove files of the working folder that can be made again, and the leftovers of killed processes.",
        ),
        Row(
            "schedule",
            "hf_jobs",
            "schedule_group",
            "Install, list and remove the scheduled job on Hugging Face that runs the bot.",
        ),
        Row(
            "webhook",
            "hf_jobs",
            "webhook_group",
            "Install, list and remove the webhook that runs the bot when a watched author changes a model.",
        ),
    ),
    "Pull requests": (
        Row(
            "compare",
            "reconvert",
            "compare_command",
            "Measure what a change does to published files: sizes and quality before and after, with a verdict.",
        ),
        Row(
            "describe",
            "reconvert",
            "describe_command",
            "Print everything in this code and configuration that published files depend on.",
        ),
        Row(
            "card", "reconvert", "card_command", "Print the model card that publishing verified artifacts would write."
        ),
        Row(
            "comment",
            "reconvert",
            "comment_command",
            "Put a comparison on a pull request, as one comment that is updated.",
        ),
        Row(
            "approve",
            "proposals",
            "approve_command",
            "Record the models that a label `convert:MODEL` asks for and the commit, "
            "if the person who set it may do so.",
        ),
        Row(
            "propose",
            "proposals",
            "propose_command",
            "Open pull requests on the Hub with the files that the code of a pull request on GitHub built.",
        ),
        Row(
            "conclude",
            "proposals",
            "conclude_command",
            "Merge the pull requests on the Hub of one on GitHub that was merged; close those of one that was closed.",
        ),
    ),
    "Hub": (
        Row(
            "hub",
            "local_hub",
            "hub_group",
            "Serve an embedded Hub from a folder, to try things out and to see what would be published.",
        ),
    ),
    "Tools": (
        Row(
            "check",
            "check",
            "check_command",
            "Say what is proven of a published repo, what is contradicted and what stays open.",
        ),
        Row(
            "doctor",
            "tools",
            "doctor_command",
            "Report what works on this machine, what is missing, and what to do about it.",
        ),
        Row(
            "variants",
            "tools",
            "variants_command",
            "List the rows of the catalogue; with a MODEL, with an estimate of each one's size.",
        ),
        Row(
            "toolchain",
            "tools",
            "toolchain_group",
            "Install, list and remove the locked environments that build and run each format.",
        ),
        Row(
            "families",
            "families",
            "families_command",
            "Find out which families of Phi each format can hold, "
            "by building and verifying a small checkpoint of each.",
        ),
        Row(
            "sample",
            "tools",
            "sample_command",
            "Make a small Phi checkpoint with the real architecture, tokenizer and config keys, to try things with.",
        ),
        Row(
            "demo",
            "tools",
            "demo_command",
            "Show the main job on this machine: a small model, the embedded Hub, all four formats.",
        ),
    ),
}


class Commands(MutableMapping[str, click.Command]):
    """All commands by their names. Looking one up imports its module."""

    def __init__(self) -> None:
        self._rows = {row.name: row for rows in GROUPS.values() for row in rows}

    def __getitem__(self, name: str) -> click.Command:
        row = self._rows[name]
        command: click.Command = getattr(importlib.import_module(f"bot.cli.{row.module}"), row.attribute)
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        raise TypeError("a command is a row of GROUPS")

    def __delitem__(self, name: str) -> None:
        raise TypeError("a command is a row of GROUPS")

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
