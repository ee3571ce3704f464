"""What the bot asks of a worker, as records: both sides import this, and neither imports the other."""

from dataclasses import dataclass

from bot.records import Record, Variant


@dataclass(frozen=True, kw_only=True)
class Target(Record):
    """A variant to build, and the folder (existing, empty) to leave its files in."""

    variant: Variant
    out: str


@dataclass(frozen=True, kw_only=True)
class BuildTask(Record):
    """Build ``targets`` from the model in the folder ``source``.

    ``source`` holds only safetensors, config and tokenizer files, with no code and no ``auto_map``. ``scratch`` is an
    empty folder on the same file system as the outputs. ``model_name`` is safe in a file name.
    """

    source: str
    model_name: str
    targets: tuple[Target, ...]
    scratch: str
    threads: int


@dataclass(frozen=True, kw_only=True)
class VerifyTask(Record):
    """Measure one artifact against its source and the reference in ``reference`` (see workers/reference.py).

    ``source`` is the folder that the artifact was built from, as BuildTask has it.
    """

    artifact: str
    variant: Variant
    source: str
    reference: str
    threads: int


@dataclass(frozen=True, kw_only=True)
class ReferenceTask(Record):
    """Compute the reference of the model in the folder ``source``; leave it in ``out`` (existing, empty).

    ``short_windows`` are the windows of text below the LongRoPE switch; 256 positions each (see workers/reference.py).
    """

    source: str
    out: str
    threads: int
    short_windows: int = 4


@dataclass(frozen=True, kw_only=True)
class SampleTask(Record):
    """Make the small checkpoint of a family (see workers/sample.py); leave its files in ``out`` (existing, empty)."""

    out: str
    family: str = "phi-3.5"
    seed: int = 0
