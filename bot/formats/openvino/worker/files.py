"""The files of an OpenVINO artifact: that there are those it needs and no others, and that they are whole."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from xml.etree import ElementTree as ET

from bot.records.digests import CONTENT_FILES
from bot.records.tasks import VerifyTask
from bot.worker.json_files import json_object

MODELS = ("openvino_model", "openvino_tokenizer", "openvino_detokenizer")  #: each an .xml and a .bin
TOKENIZER_FILES = CONTENT_FILES - {"config.json", "generation_config.json"}  #: copied from the source

_CONFIGS = {"config.json", "generation_config.json"}
_OF_COMPRESSION = "openvino_config.json"  # optimum-intel says in it how it compressed; nothing, where it did not
_BITS = {"u4": 4, "i4": 4, "u8": 8, "i8": 8, "boolean": 8, "f16": 16, "bf16": 16, "i32": 32, "f32": 32, "i64": 64}


def inspect(task: VerifyTask) -> str:
    """Say in a few words what the files are. Raises ValueError, naming the file, where they are not as they should be.

    The tokenizer's files are those of the source, which transformers reads: they need to be there, and are not read.
    """
    folder, source = Path(task.artifact), Path(task.source)
    needed = _CONFIGS | {f"{name}.{kind}" for name in MODELS for kind in ("xml", "bin")}
    needed |= {name for name in TOKENIZER_FILES if (source / name).exists()}
    there = {file.name for file in folder.iterdir()}
    if missing := needed - there:
        raise ValueError(f"{min(missing)} is missing")
    if extra := there - needed - {_OF_COMPRESSION}:
        raise ValueError(f"{min(extra)} is not part of an OpenVINO model")
    for name in sorted(there & (_CONFIGS | {_OF_COMPRESSION})):
        json_object(folder / name)
    constants = {name: _constants(folder / f"{name}.xml") for name in MODELS}
    return f"{len(there)} files; a model of {constants['openvino_model']} constants, with its tokenizer and detokenizer"


def _constants(xml: Path) -> int:
    """Count a model's constants, and see that they fill the file of its data to the last byte."""
    data, count, end = xml.with_suffix(".bin"), 0, 0
    size = data.stat().st_size
    try:
        for constant in _layers(xml):
            offset, length = int(constant["offset"]), int(constant["size"])
            bits = _BITS.get(constant["element_type"])
            dimensions = [int(d) for d in constant["shape"].split(",") if d.strip()]
            if bits is not None and length != max(-(-prod(dimensions) * bits // 8), 1):  # an empty one takes a byte
                raise ValueError(f"a constant of shape {dimensions} has {length} bytes")
            count, end = count + 1, max(end, offset + length)
    except KeyError as error:
        raise ValueError(f"{xml.name} is damaged: a constant without {error.args[0]}") from error
    except (ET.ParseError, ValueError) as error:
        raise ValueError(f"{xml.name} is damaged: {error}") from error
    if size != end:
        raise ValueError(
            f"{data.name} is {'shorter' if size < end else 'longer'} than {xml.name} says: {size} bytes, not {end}"
        )
    return count


def _layers(xml: Path) -> Iterator[dict[str, str]]:
    """Yield what a model says of the data of each of its constants."""
    for _, element in ET.iterparse(xml):  # noqa: S314 - expat limits what entities may grow to
        if element.tag == "layer":
            described = element.find("data")
            if element.get("type") == "Const" and described is not None:
                yield dict(described.attrib)
            element.clear()
