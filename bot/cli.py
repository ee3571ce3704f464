"""The command line: one command a step. A person reads tables; ``--json`` prints records for machines."""

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

import bot
from bot import catalogue, config, doctor, show
from bot.errors import DiskFullError, Interrupted, PhiBotError
from bot.hub import client
from bot.progress import Display, display, size
from bot.records import Artifact, Plan, Record, Report, Watched
from bot.steps.announce import announce
from bot.steps.build import build
from bot.steps.failures import exit_code, failure
from bot.steps.plan import plan
from bot.steps.publish import publish
from bot.steps.run import Means, run
from bot.steps.verify import verify
from bot.steps.watch import watch
from bot.toolchains import install, names
from bot.workspace import Workspace, read_artifact, read_record

F = TypeVar("F", bound=Callable[..., Any])


# ---- what commands share -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the common options say."""

    config: Path | None
    endpoint: str | None
    namespace: str | None
    work: Path | None
    json: bool
    quiet: bool

    def means(self) -> Means:
        """Read the configuration and return what the steps work with. Makes no request."""
        settings = config.load(self.config, environ=os.environ).replace(
            endpoint=self.endpoint, work=self.work, namespace=self.namespace
        )
        return Means(
            config=settings,
            workspace=Workspace(root=settings.build.work),
            hub=client.connect(settings.hub.endpoint, None),
            display=self.display(),
        )

    def display(self) -> Display:
        """Return where progress is shown."""
        return display(quiet=self.quiet)


_COMMON = (
    click.option("--config", type=click.Path(path_type=Path), help="The phi-bot.toml to use."),
    click.option("--endpoint", help="The Hub's address, in place of the configured one."),
    click.option("--namespace", help="The user or organisation to publish under."),
    click.option("--work", type=click.Path(path_type=Path), help="The folder for downloads and artifacts."),
    click.option("--json", "json_", is_flag=True, help="Print records as JSON."),
    click.option("--quiet", is_flag=True, help="Show no progress."),
)


def common(function: F) -> F:
    """Give a command the options that all steps have, as one ``options`` argument."""

    def wrapped(json_: bool, **given: Any) -> Any:
        keys = ("config", "endpoint", "namespace", "work", "quiet")
        options = Options(json=json_, **{k: given.pop(k) for k in keys})
        return function(options=options, **given)

    wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
    wrapped.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in reversed(_COMMON):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


_variants = click.option(
    "--variants",
    "-v",
    "wanted",
    multiple=True,
    metavar="NAME",
    help="A row, a FORMAT, FORMAT/* or default; several with commas or by repeating. Default: as configured.",
)


def _chosen(wanted: tuple[str, ...], means: Means) -> tuple[str, ...]:
    split = tuple(part for text in wanted for part in text.split(",") if part)
    return split or means.config.build.variants


def _print_json(record: Record) -> None:
    click.echo(json.dumps(record.to_json(), indent=2, ensure_ascii=False))


def _input(path: str, kind: type[Any]) -> Any:
    """Read a record that another step printed, from a file or from standard input (``-``)."""
    return read_record(Path("/dev/stdin") if path == "-" else Path(path), kind)


def _artifacts(sources: tuple[str, ...]) -> list[Artifact]:
    """Read artifacts from their folders, or from the JSON of a step before."""
    found: list[Artifact] = []
    for text in sources:
        if Path(text).is_dir():
            found.append(read_artifact(Path(text)))
        else:
            report: Report = _input(text, Report)
            found += [read_artifact(Path(a.folder)) for a in report.artifacts]
    return found


# ---- the steps -----------------------------------------------------------------------------------------------


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(bot.__version__, prog_name="phi-bot")
def cli() -> None:
    """Turn Microsoft Phi releases into GGUF, ONNX, OpenVINO and MLX files, each proven against the original."""


@cli.command("run")
@click.argument("models", nargs=-1, metavar="[MODEL[@REVISION]]...")
@_variants
@common
def run_command(models: tuple[str, ...], wanted: tuple[str, ...], options: Options) -> int:
    """Do the main job: watch, plan, build, verify, publish, announce.

    MODEL is a repo on the Hub or a local folder; without one, the configured authors are watched. Without a namespace
    the files are built and verified, and nothing is published.

    \b
    Example: phi-bot run microsoft/Phi-4-mini-instruct --variants gguf/q4_k_m
    """
    means = options.means()
    chosen = _chosen(wanted, means)
    rows = catalogue.select(chosen)
    named = frozenset(chosen) & frozenset(v.name for v in rows)
    todo, report = run(models, rows, named=named, means=means)
    summary = announce(report)
    if options.json:
        _print_json(report)
    else:
        _show_run(todo, report, means)
        if "GITHUB_STEP_SUMMARY" not in os.environ and report.publications and not sys.stdout.isatty():
            click.echo(summary)
    done = bool(report.artifacts or report.publications or todo.done)
    return exit_code(report.failures, anything_done=done)


def _show_run(todo: Plan, report: Report, means: Means) -> None:
    if report.publications:
        show.publications(report)
    elif report.artifacts:
        show.artifacts(report.artifacts)
        if not means.config.publish.namespace:
            click.echo("Not published: give --namespace to publish these under your name.")
    if not todo.jobs:
        already = len(todo.done)
        click.echo(f"Nothing to convert: {already} variants are published already." if already else "Nothing to do.")
    show.failures(report.failures)


@cli.command("watch")
@click.argument("models", nargs=-1, metavar="[MODEL[@REVISION]]...")
@common
def watch_command(models: tuple[str, ...], options: Options) -> None:
    """List the releases that are there: those of the configured authors, or the named ones.

    \b
    Example: phi-bot watch --json > releases.json
    """
    means = options.means()
    found = watch(models, config=means.config, hub=means.hub, display=means.display)
    if options.json:
        _print_json(Watched(releases=found))
    else:
        show.releases(found)


@cli.command("plan")
@click.argument("models", nargs=-1, metavar="[MODEL[@REVISION]]...")
@click.option("--releases", metavar="FILE", help="What `phi-bot watch --json` printed; - for standard input.")
@_variants
@common
def plan_command(models: tuple[str, ...], releases: str | None, wanted: tuple[str, ...], options: Options) -> None:
    """Say what is to be built, and what is published already. Converts nothing.

    \b
    Example: phi-bot plan microsoft/Phi-4-mini-instruct --variants gguf,mlx/4bit --json > plan.json
    """
    means = options.means()
    if releases:
        given: Watched = _input(releases, Watched)
        found = given.releases
    else:
        found = watch(models, config=means.config, hub=means.hub, display=means.display)
    rows = catalogue.select(_chosen(wanted, means))
    todo = plan(found, rows, namespace=means.config.publish.namespace, hub=means.hub)
    if options.json:
        _print_json(todo)
    else:
        show.plan(todo)


@cli.command("build")
@click.argument("sources", nargs=-1, required=True, metavar="PLAN.json|MODEL...")
@_variants
@common
def build_command(sources: tuple[str, ...], wanted: tuple[str, ...], options: Options) -> int:
    """Build what a plan says, or the variants of models. The artifacts' folders are printed.

    \b
    Example: phi-bot build plan.json --json > artifacts.json
    """
    means = options.means()
    if len(sources) == 1 and (sources[0] == "-" or sources[0].endswith(".json")):
        todo: Plan = _input(sources[0], Plan)
    else:
        rows = catalogue.select(_chosen(wanted, means))
        found = watch(sources, config=means.config, hub=means.hub, display=means.display)
        todo = plan(found, rows, namespace=None, hub=means.hub)
    artifacts: list[Artifact] = []
    failures = list(todo.failures)
    for job in todo.jobs:
        report = build(
            job,
            workspace=means.workspace,
            hub=means.hub,
            threads=means.config.build.threads,
            display=means.display,
        )
        artifacts += report.artifacts
        failures += report.failures
    return _finish(Report(artifacts=tuple(artifacts), failures=tuple(failures)), options)


@cli.command("verify")
@click.argument("sources", nargs=-1, required=True, metavar="ARTIFACTS.json|FOLDER...")
@common
def verify_command(sources: tuple[str, ...], options: Options) -> int:
    """Load artifacts in their own runtime and compare them with the original.

    \b
    Example: phi-bot verify artifacts.json --json > proven.json
    """
    means = options.means()
    proven: list[Artifact] = []
    failures = []
    for artifact in _artifacts(sources):
        try:
            proven.append(
                verify(
                    artifact,
                    config=means.config,
                    workspace=means.workspace,
                    hub=means.hub,
                    threads=means.config.build.threads,
                    display=means.display,
                )
            )
        except Interrupted:
            raise
        except PhiBotError as error:
            build_record = artifact.build
            failures.append(failure(build_record.source.label, build_record.variant.name, "verify", error))
    return _finish(Report(artifacts=tuple(proven), failures=tuple(failures)), options)


@cli.command("publish")
@click.argument("sources", nargs=-1, required=True, metavar="PROVEN.json|FOLDER...")
@common
def publish_command(sources: tuple[str, ...], options: Options) -> int:
    """Publish proven artifacts: one commit a repo, with card and record.

    \b
    Example: phi-bot publish proven.json --namespace my-org --json > published.json
    """
    means = options.means()
    settings = means.config.publish
    report = publish(
        _artifacts(sources),
        namespace=settings.namespace,
        private=settings.private,
        hub=means.hub,
        display=means.display,
    )
    if options.json:
        _print_json(report)
    else:
        show.publications(report)
        show.failures(report.failures)
    return exit_code(report.failures, anything_done=bool(report.publications))


@cli.command("announce")
@click.argument("published", metavar="PUBLISHED.json")
@common
def announce_command(published: str, options: Options) -> None:
    """Print the summary of a run as Markdown; on GitHub Actions it is added to the job's summary too.

    \b
    Example: phi-bot announce published.json
    """
    report: Report = _input(published, Report)
    text = announce(report)
    click.echo(json.dumps({"markdown": text}) if options.json else text)


def _finish(report: Report, options: Options) -> int:
    if options.json:
        _print_json(report)
    else:
        show.artifacts(report.artifacts)
        show.failures(report.failures)
    return exit_code(report.failures, anything_done=bool(report.artifacts))


# ---- the rest ------------------------------------------------------------------------------------------------


@cli.command("variants")
@click.argument("model", required=False)
@common
def variants_command(model: str | None, options: Options) -> None:
    """List the rows of the catalogue; with a MODEL, with an estimate of each one's size.

    \b
    Example: phi-bot variants microsoft/Phi-4-mini-instruct
    """
    rows = tuple(catalogue.all_variants().values())
    parameters = None
    if model:
        means = options.means()
        release = watch([model], config=means.config, hub=means.hub, display=means.display)[0]
        parameters = release.parameters
    if options.json:
        click.echo(
            json.dumps(
                [
                    v.to_json() | {"estimated_size": round(parameters * v.bits_per_weight / 8) if parameters else None}
                    for v in rows
                ],
                indent=2,
            )
        )
    else:
        show.variants(rows, parameters)


@cli.group("toolchain")
def toolchain_group() -> None:
    """Install, list and remove the locked environments that build and run each format."""


@toolchain_group.command("install")
@click.argument("wanted", nargs=-1, metavar="[NAME]...")
@click.option("--all", "all_", is_flag=True, help="Install all of them.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def toolchain_install(wanted: tuple[str, ...], all_: bool, quiet: bool) -> None:
    """Install toolchains now; without this they are installed when they are first needed.

    \b
    Example: phi-bot toolchain install gguf reference
    """
    if not wanted and not all_:
        raise click.UsageError(f"name toolchains ({', '.join(names())}) or give --all")
    for name in names() if all_ else wanted:
        _known_toolchain(name)
        toolchain = install.ensure(name, display(quiet=quiet))
        click.echo(f"{name} is installed in {toolchain.python.parent.parent}")


@toolchain_group.command("list")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def toolchain_list(json_: bool) -> None:
    """List the toolchains, which of them are installed, and how much disk they take.

    \b
    Example: phi-bot toolchain list
    """
    found = {i.name: i for i in install.installed()}
    if json_:
        rows = [
            {
                "name": name,
                "installed": name in found,
                "folder": str(found[name].folder) if name in found else None,
                "size": found[name].size if name in found else None,
            }
            for name in names()
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for name in names():
        if name in found:
            click.echo(f"{name:<10} {size(found[name].size):>9}  {found[name].folder}")
        else:
            click.echo(f"{name:<10} not installed")


@toolchain_group.command("remove")
@click.argument("wanted", nargs=-1, required=True, metavar="NAME...")
def toolchain_remove(wanted: tuple[str, ...]) -> None:
    """Remove toolchains from the cache folder.

    \b
    Example: phi-bot toolchain remove gguf
    """
    for name in wanted:
        _known_toolchain(name)
        click.echo(f"{name}: removed" if install.remove(name) else f"{name}: was not installed")


def _known_toolchain(name: str) -> None:
    if name not in names():
        raise click.UsageError(f"there is no toolchain {name!r}; there are {', '.join(names())}")


@cli.command("sample")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--quiet", is_flag=True, help="Show no progress.")
def sample_command(folder: Path, quiet: bool) -> None:
    """Make a small Phi checkpoint with true architecture, tokenizer and config keys, to try things with.

    \b
    Example: phi-bot sample ./phi-sample
    """
    from bot.sample import make_sample

    make_sample(folder, display(quiet=quiet))
    click.echo(f"The sample checkpoint is in {folder}")


@cli.group("hub")
def hub_group() -> None:
    """The embedded Hub: a real one in a folder, for trying things and for looking at what would be published."""


@hub_group.command("serve")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option("--port", default=8080, show_default=True, help="0 takes a free one.")
def hub_serve(folder: Path, host: str, port: int) -> None:
    """Serve a folder as a Hub until Ctrl-C; open its address in a browser to see the repos and their cards.

    \b
    Example: phi-bot hub serve ./my-hub --port 8080
    """
    from bot.hub import local  # its pages need the extra "hub"

    def ready(hub: local.RunningHub) -> None:
        click.echo(f"The Hub in {folder} is at {hub.url} (Ctrl-C ends it)")
        click.echo(f"Use it with: HF_ENDPOINT={hub.url} HF_HUB_DISABLE_XET=1 HF_TOKEN=$(cat {hub.token_file})")

    local.serve_forever(folder, host, port, ready)


@cli.command("doctor")
@common
def doctor_command(options: Options) -> int:
    """Say what works on this machine, what is missing, and what to do about it.

    \b
    Example: phi-bot doctor
    """
    means = options.means()
    found = doctor.diagnose(means.config.build.work, means.hub.check)
    if options.json:
        click.echo(json.dumps([f.to_json() for f in found], indent=2))
    else:
        show.findings(found)
    return 1 if any(f.status == "missing" for f in found) else 0


@cli.command("init")
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
def init_command(folder: Path) -> None:
    """Write a phi-bot.toml in which every key is explained.

    \b
    Example: phi-bot init
    """
    path = folder / config.FILE_NAME
    config.init(path)
    click.echo(f"Wrote {path}")


@cli.command("demo")
@click.argument("folder", type=click.Path(path_type=Path), default=Path(".demo"))
def demo_command(folder: Path) -> int:
    """Show the whole way of a release on this machine: a small model, the embedded Hub, all four formats.

    \b
    Example: phi-bot demo .demo
    """
    from bot.demo import demo

    return demo(folder)


# ---- main ----------------------------------------------------------------------------------------------------


def main() -> NoReturn:
    """Run the command line and exit with its code."""
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
    except (click.Abort, KeyboardInterrupt, Interrupted):
        return _say(Interrupted("interrupted", hint="Nothing half-made was left. Run the same command again to go on."))
    except PhiBotError as error:
        return _say(error)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _say(DiskFullError(f"the disk is full: {error}", hint="Free some disk and run the same command again."))


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted("stopped", hint="Run the same command again to go on.")


def _say(error: PhiBotError) -> int:
    click.echo(f"phi-bot: {error.message}\n         {error.hint}", err=True)
    return error.exit_code


if __name__ == "__main__":
    main()
