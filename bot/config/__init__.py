"""``phi-bot.toml`` → one frozen Config.

The dataclasses of tables.py, machines.py and places.py are the one description of that file: how
it is read, its JSON schema (phi-bot.schema.json, by ``python -m bot.config``), the text of ``phi-bot init`` and the
table in docs/configuration.md all come from them.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.config import file as config_file
from bot.config import text
from bot.config.file import key_metadata
from bot.config.machines import HfJobsTable, PlanTable, RunnerName, RunnerTable
from bot.config.places import AnnounceTable, PublishTable, ReconvertTable, SignTable
from bot.config.tables import BuildTable, HubTable, RunTable, VerifyTable, WatchTable, WorkTable
from bot.errors import ConfigError
from bot.records import base, schema
from bot.records.base import MalformedRecordError, Record, fields_of

FILE_NAME, TEXT_VARIABLE = "phi-bot.toml", "PHI_BOT_TOML"
_REPLACED = {
    "verify.gates": "bounds in nats hold for no two models. Set [verify.cost], in multiples of what plain rounding of "
    "the same bits costs on each model, or leave it out for 1.5"
}
_HINT = "docs/configuration.md explains every key; so does the file that `phi-bot init` writes."


@dataclass(frozen=True, kw_only=True)
class Config(Record):
    """The settings of watching, building, verifying and publishing. Every key may be left out."""

    hub: HubTable = field(default_factory=HubTable)
    run: RunTable = field(default_factory=RunTable)
    watch: WatchTable = field(default_factory=WatchTable)
    build: BuildTable = field(default_factory=BuildTable)
    work: WorkTable = field(default_factory=WorkTable)
    verify: VerifyTable = field(default_factory=VerifyTable)
    plan: PlanTable = field(default_factory=PlanTable)
    hf_jobs: HfJobsTable = field(default_factory=HfJobsTable)
    runner: dict[RunnerName, RunnerTable] = field(
        default_factory=dict,
        metadata=key_metadata("Machines of your own that jobs may be planned on, by names that you give them."),
    )
    publish: PublishTable = field(default_factory=PublishTable)
    reconvert: ReconvertTable = field(default_factory=ReconvertTable)
    announce: AnnounceTable = field(default_factory=AnnounceTable)

    def times(self, precision: str) -> float:
        """Return how many times the cost of plain rounding a file of a precision class (``int4`` …) may cost."""
        bounds: dict[str, float] = dataclasses.asdict(self.verify.cost)
        return bounds[precision]

    def namespace(self, why: str) -> str:
        """Return the namespace to publish in. Raises ConfigError, which says ``why`` there has to be one."""
        if not self.publish.namespace:
            raise ConfigError(why, hint="Give --namespace NAME, or set [publish] namespace.")
        return self.publish.namespace

    def replace(
        self,
        *,
        endpoint: str | None = None,
        work: Path | None = None,
        namespace: str | None = None,
        dry_run: bool | None = None,
    ) -> "Config":
        """Return the config with what the command line said in place of it; None leaves a value as it is.

        Raises ConfigError, naming the option, for a value that the file could not hold either.
        """
        hub, build, publish, run = self.hub, self.build, self.publish, self.run
        if dry_run is not None:
            run = dataclasses.replace(run, dry_run=dry_run)
        if endpoint is not None:
            hub = _with(hub, "endpoint", endpoint, "--endpoint")
        if work is not None:
            build = _with(build, "work", str(work), "--work")
        if namespace is not None:
            publish = _with(publish, "namespace", namespace, "--namespace")
        build = _placed(build, Path.cwd())
        return dataclasses.replace(self, hub=_trimmed(hub), build=build, publish=publish, run=run)


def load(path: Path | None, *, environ: Mapping[str, str]) -> Config:
    """Read a config file; None means ./phi-bot.toml, or the defaults where there is none.

    Where there is no file, ``environ`` may hold its text as PHI_BOT_TOML: jobs on other machines get it so. HF_ENDPOINT
    and PHI_BOT_CACHE fill in what the file leaves out. Raises ConfigError for a file that cannot be read, an unknown
    key or a wrong value; the message names file, line, key and what is allowed.
    """
    if path is None and not Path(FILE_NAME).exists():
        given, source = config_file.parse_text(environ.get(TEXT_VARIABLE, ""), f"${TEXT_VARIABLE}", hint=_HINT)
        config, folder = config_file.read(Config, given, source, _REPLACED), Path()
    else:
        path = path or Path(FILE_NAME)
        given, source = config_file.parse(path, hint=_HINT)
        config, folder = config_file.read(Config, given, source, _REPLACED), path.parent
    hub, build = config.hub, config.build
    if environ.get("HF_ENDPOINT") and "endpoint" not in given.get("hub", {}):
        hub = _with(hub, "endpoint", environ["HF_ENDPOINT"], "the environment variable HF_ENDPOINT")
    if environ.get("PHI_BOT_CACHE") and "work" not in given.get("build", {}):
        build = _with(build, "work", environ["PHI_BOT_CACHE"], "the environment variable PHI_BOT_CACHE")
        build = _placed(dataclasses.replace(build, work=build.work / "work"), Path.cwd())
    folder = folder.absolute()
    publish = _with_key_from(config.publish, folder)
    return dataclasses.replace(config, hub=_trimmed(hub), build=_placed(build, folder), publish=publish)


def init(path: Path) -> None:
    """Write a config file in which every key is explained. Raises ConfigError where there is one already."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text.template(Config))
    except FileExistsError:
        raise ConfigError(f"{path} is there already", hint="It was left as it is. Edit it, or move it away.") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", hint="Name a file in a folder of yours.") from None


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a config file, for editors and for checks in CI."""
    return schema.schema(Config, title="phi-bot.toml", toml=True)


def _with(section: Any, name: str, value: str, said_by: str) -> Any:
    try:
        found = base.read(fields_of(section.__class__)[0][name], value)
    except MalformedRecordError as error:
        raise ConfigError(f"{said_by} {config_file.in_words(error)}", hint=_HINT) from None
    return dataclasses.replace(section, **{name: found})


def _trimmed(hub: HubTable) -> HubTable:
    return dataclasses.replace(hub, endpoint=hub.endpoint.rstrip("/"))


def _with_key_from(publish: PublishTable, folder: Path) -> PublishTable:
    if publish.sign.key is None:
        return publish
    return dataclasses.replace(publish, sign=SignTable(key=folder / publish.sign.key.expanduser()))


def _placed(build: BuildTable, folder: Path) -> BuildTable:
    return dataclasses.replace(build, work=folder / build.work.expanduser())
