"""The command line: one command a step. A person reads tables; ``--json`` prints records for machines."""

import os
import signal
import sys
import threading
import traceback
from types import FrameType, TracebackType
from typing import NoReturn

import click

import bot
from bot.cli import clean, families, hf_jobs, local_hub, plan, proposals, reconvert, run, state, status, steps, tools
from bot.errors import DiskFullError, Interrupted, PhiBotError
from bot.printable import shown
from bot.system import disk

_WHOLE = 1000  # characters: more than any command's first sentence has, so none is cut


class Grouped(click.Group):
    """A group of commands whose help lists them under headings."""

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading, its commands in the order in which people meet them."""
        width = max(map(len, self.commands))
        for heading, commands in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{c.name:<{width}}", c.get_short_help_str(_WHOLE)) for c in commands])


@click.group(cls=Grouped, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(bot.__version__, prog_name="phi-bot")
def cli() -> None:
    """Turn Microsoft Phi releases into GGUF, ONNX, OpenVINO and MLX files, each proven against the original."""


GROUPS: dict[str, tuple[click.Command, ...]] = {
    "Main job": (run.run_command,),
    "Steps of the main job": (
        plan.watch_command,
        plan.plan_command,
        steps.build_command,
        steps.verify_command,
        steps.publish_command,
        steps.announce_command,
        steps.stage_command,
        steps.promote_command,
    ),
    "Operating the bot": (
        tools.init_command,
        status.status_command,
        state.retry_command,
        state.pause_command,
        state.resume_command,
        clean.clean_command,
        hf_jobs.schedule_group,
        hf_jobs.webhook_group,
    ),
    "Pull requests": (
        reconvert.compare_command,
        reconvert.describe_command,
        reconvert.card_command,
        reconvert.comment_command,
        proposals.approve_command,
        proposals.propose_command,
        proposals.conclude_command,
    ),
    "Hub": (local_hub.hub_group,),
    "Tools": (
        tools.doctor_command,
        tools.variants_command,
        tools.toolchain_group,
        families.families_command,
        tools.sample_command,
        tools.demo_command,
    ),
}

for group in GROUPS.values():
    for command in group:
        cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    sys.excepthook = _bug
    sys.exit(_main(sys.argv[1:]))


def _main(arguments: list[str]) -> int:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)  # a runner's time limit: end as tidily as on Ctrl-C
    try:
        result = cli.main(args=arguments, prog_name="phi-bot", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _say(Interrupted("interrupted", hint="Nothing half-made was left. Run the same command again to go on."))
    except PhiBotError as error:
        return _say(error)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if not disk.is_full(error):
            raise
        return _say(DiskFullError(f"the disk is full: {error}", hint=disk.FREE))


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _bug(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Print what is a fault of the bot's, as Python does, but for what would steer the terminal."""
    sys.stderr.write(shown("".join(traceback.format_exception(kind, error, where))))


def _say(error: PhiBotError) -> int:
    click.echo(f"phi-bot: {error.message}\n         {error.hint}", err=True)
    return error.exit_code
