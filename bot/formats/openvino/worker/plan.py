"""The output of optimum-intel without the weights: the model's graph, and where the bytes of each constant are.

A model is exported with stand-ins in place of its weights (standins.py): addresses of the true size that no
memory stands behind. OpenVINO writes its graph as XML, in which each constant has a size and an offset into the file of
data. A constant of the graph that lies at the address of a stand-in is that weight; one that a compression gave has its
place in ``parts``; all others are small and kept as bytes. ``constants`` pairs both lists, by order, name and size, and
gives up where they differ: then the toolchain's own way is taken.

What is planned is handed on as JSON (``to_json``), for each target is planned in a process of its own. Then all targets
are written in one read of the source (writing.py), and ``with_offsets`` puts the offsets that came of it into the XML.
"""

import base64
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any, Protocol

import numpy as np

from bot.formats.openvino.worker.standins import StandIns
from bot.records.artifacts import Json
from bot.worker.fast import NotCovered

_CONSTANT = re.compile(
    rb'(<layer id="\d+" name="([^"]*)" type="Const"[^>]*>\s*<data [^>]*?\boffset=")(\d+)(" size=")(\d+)(")'
)
_LARGEST_F16 = 65504


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A constant that is a weight of the source, in numbers of the ``type`` (as torch names it)."""

    weight: str
    type: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """A constant that a compression gives: its ``what`` is "weight", "scale" or "zero_point"."""

    of: "Compression"
    what: str


class Compression(Protocol):
    """The treatment of a ``weight`` of a ``shape``; see compress.py."""

    weight: str
    kept: dict[str, list[bytes]]  #: computed with the weight, and due after it

    @property
    def loaded(self) -> str:
        """The type of the weight's numbers, as torch names it."""

    def begin(self) -> None:
        """Begin with the first rows, perhaps once more."""

    def run(self, rows: Any) -> bytes:
        """Compress rows of the weight, from their bytes; keep their scales and zero points, and return the rest."""

    def end(self) -> None:
        """Say that these were all rows."""

    def to_json(self) -> Json:
        """Return it for another process."""


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A constant of the model, in the order of the file: ``size`` in bytes, and those or what they come from."""

    size: int
    made_of: bytes | Whole | Part


def constants(model: Any, xml: bytes, standins: StandIns, parts: dict[str, Part], loaded: str) -> list[Constant]:
    """Return the constants of a model as OpenVINO wrote it to ``xml``. Raises NotCovered where the two do not agree.

    ``parts`` says by name what is compressed; other weights are in the type ``loaded``.
    """
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
    written = [(unescape(m[2].decode()), int(m[5])) for m in _CONSTANT.finditer(xml)]
    if [name.removesuffix("_compressed") for name, _ in written] != [node.get_friendly_name() for node in nodes]:
        raise NotCovered("OpenVINO writes other constants than the model has")
    found = []
    for node, (name, size) in zip(nodes, written, strict=True):
        held = node.get_byte_size()
        weight = standins.name_at(node.data.ctypes.data, held) if held else None
        made_of: bytes | Whole | Part
        if name in parts:
            made_of = parts[name]
        elif weight is not None:
            made_of = Whole(weight=weight, type=loaded)
        else:
            data: bytes = node.data.tobytes()
            if size * 2 == held and node.get_element_type().get_type_name() == "f32":
                data, held = _half(data), size
            made_of = data
        if size != max(held, 1):  # an empty one takes a byte
            raise NotCovered(f"OpenVINO writes {size} bytes of {name}, which has {held}")
        found.append(Constant(size=size, made_of=made_of))
    return found


def weights(found: Iterable[Constant]) -> list[str]:
    """Return the weights that constants are made of, in the order in which they are read."""
    sources = []
    for constant in found:
        if isinstance(constant.made_of, Whole):
            sources.append(constant.made_of.weight)
        elif isinstance(constant.made_of, Part) and constant.made_of.what == "weight":
            sources.append(constant.made_of.of.weight)
    return sources


def to_json(found: Iterable[Constant]) -> Json:
    """Return constants for another process. One compression may have several: each is told once."""
    jobs: dict[Compression, int] = {}  # they are told apart by identity
    told: list[Json] = []
    for constant in found:
        made_of = constant.made_of
        if isinstance(made_of, bytes):
            told.append({"size": constant.size, "bytes": base64.b64encode(made_of).decode()})
        elif isinstance(made_of, Whole):
            told.append({"size": constant.size, "weight": made_of.weight, "type": made_of.type})
        else:
            job = jobs.setdefault(made_of.of, len(jobs))
            told.append({"size": constant.size, "job": job, "what": made_of.what})
    return {"jobs": [job.to_json() for job in jobs], "constants": told}


def from_json(value: Json, read_job: Callable[[Json], Compression]) -> list[Constant]:
    """Read what ``to_json`` wrote."""
    jobs = [read_job(job) for job in value["jobs"]]
    return [Constant(size=told["size"], made_of=_made_of(told, jobs)) for told in value["constants"]]


def _made_of(told: Json, jobs: Sequence[Compression]) -> bytes | Whole | Part:
    if "bytes" in told:
        return base64.b64decode(told["bytes"])
    if "weight" in told:
        return Whole(weight=told["weight"], type=told["type"])
    return Part(of=jobs[told["job"]], what=told["what"])


def with_offsets(xml: bytes, offsets: Iterable[int]) -> bytes:
    """Give the constants of a graph their places in the file of data."""
    each = iter(offsets)
    return _CONSTANT.sub(lambda m: m[1] + str(next(each)).encode() + m[4] + m[5] + m[6], xml)


def _half(data: bytes) -> bytes:
    """Return float32 numbers as float16, as OpenVINO stores them: those too large become the largest."""
    values = np.frombuffer(data, np.float32)
    half: bytes = np.clip(values, -_LARGEST_F16, _LARGEST_F16).astype(np.float16).tobytes()
    return half
