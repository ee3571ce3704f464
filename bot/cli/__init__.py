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
from bot.cli.commands import GROUPS, Commands
from bot.errors import DiskFullError, Interrupted, PhiBotError
from bot.printable import shown
from bot.system import disk


class Grouped(click.Group):
    """A group of commands whose help lists them under headings."""

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading, its commands in the order in which people meet them."""
        width = max(map(len, self.commands))
        for heading, rows in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{row.name:<{width}}", row.sentence) for row in rows])


@click.group(
    cls=Grouped, commands=Commands(), context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(bot.__version__, prog_name="phi-bot")
def cli() -> None:
    """Turn Microsoft Phi releases into GGUF, ONNX, OpenVINO, MLX and PyTorch files, proven against the original."""


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
