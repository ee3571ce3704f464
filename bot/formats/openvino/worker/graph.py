"""Run optimum-intel's export on stand-ins for the weights: all that it writes is real, but for the constants' bytes."""

import mmap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from optimum.exporters.openvino import convert
from optimum.intel.openvino import modeling_base
from transformers import PreTrainedModel

from bot.formats.openvino.worker.plan import Constant, Part, constants, weights, with_offsets
from bot.formats.openvino.worker.replaced import patched_attribute
from bot.formats.openvino.worker.standins import StandIns
from bot.records.artifacts import TypesByCost
from bot.worker.fast import NotCovered
from bot.worker.mapped import SMALL, Mapped
from bot.worker.mixing import Mixer

MODELS = ("phi", "phi3")  #: as config.json names their types

_TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
_LEAST = 10_000  # numbers in a matrix; nncf has another way for fewer, which looks at them
_GRAPHS = ("openvino_model.xml", "model.xml")  # as the export calls it, and nncf's result before that takes its name


class StandInExport:
    """An export with stand-ins for weights. It leaves the ``constants`` of the model, in the order of the file."""

    def __init__(self, mapped: Mapped, *, compresses: bool, mixer: Mixer | None = None) -> None:
        self._mapped, self._compresses, self._mixer = mapped, compresses, mixer
        self._standins = StandIns()
        self._loaded = torch.float32
        self._parts: dict[str, Part] = {}
        self._first: Path | None = None  # what nncf reads: a graph without a file of data
        self.constants: tuple[Constant, ...] = ()
        self._chosen: Any = None  # what gives types by the mixer

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Let the libraries work on stand-ins. They raise NotCovered for what cannot be done so."""
        self._save, trace = openvino.save_model, convert.convert_model
        load = PreTrainedModel._load_pretrained_model  # noqa: SLF001 - what loads, once all about the model is decided

        def loaded(model: Any, _: Any, __: Any, config: Any, expected_keys: Any = None) -> Any:
            return load(model, self._tensors(model, config.dtype), None, config, expected_keys)

        def traced(*args: Any, **kwargs: Any) -> Any:
            self._standins.forget()  # torch ran the model once, to see what it does
            graph = trace(*args, **kwargs)
            if self._loaded is torch.float32:
                self._standins.forget()  # it looked for denormal numbers, to make zeros of them; see writing.py
            return graph

        with ExitStack() as stack:
            stack.enter_context(patched_attribute(PreTrainedModel, "_load_pretrained_model", loaded))
            stack.enter_context(patched_attribute(convert, "convert_model", traced))
            # torch would trace the model a second time, and compare: half of the tracing, for models traced many times.
            stack.enter_context(patched_attribute(convert, "allow_skip_tracing_check", lambda *_: True))
            for owner in (openvino, convert):
                stack.enter_context(patched_attribute(owner, "save_model", self._saved))
            stack.enter_context(patched_attribute(modeling_base, "core", _Core(modeling_base.core, self._read)))
            if self._compresses:
                from bot.formats.openvino.worker.compress import TypesByMixer, recorded  # nncf takes a while to import

                self._chosen = TypesByMixer(mixer=self._mixer) if self._mixer is not None else None
                self._parts = stack.enter_context(recorded(self._standins, self._chosen))
            yield

    @property
    def chosen(self) -> TypesByCost | None:
        """What is said of the types of the matrices, where a mixer chose them."""
        return None if self._chosen is None or self._chosen.mix is None else self._chosen.mix.said

    def _tensors(self, model: Any, loaded: Any) -> dict[str, Any]:
        """Return the checkpoint's tensors as the model is to have them: matrices are stand-ins, others are real."""
        if model.config.model_type not in MODELS:
            raise NotCovered(
                f"a model of the type {model.config.model_type} puts its weights together as it loads them"
            )
        if loaded not in _TYPES.values():
            raise NotCovered(f"the weights are loaded as {loaded}")
        stored = self._mapped.stored
        large = {name: s for name, s in stored.items() if len(s.shape) > 1 and prod(s.shape) >= _LEAST}
        self._loaded, size = loaded, loaded.itemsize
        self._standins.stand_for({name: prod(s.shape) * size for name, s in large.items()})
        if loaded is torch.float32:
            # OpenVINO looks at constants in 32 bits, so let it see different numbers; that they are is checked later.
            numbers = torch.Generator().manual_seed(0)
            for name in large:
                page = torch.randn(mmap.PAGESIZE // size, generator=numbers)
                self._standins.fill(name, page.numpy().tobytes())
        tensors = {}
        for name, s in stored.items():
            if name in large:
                tensors[name] = torch.frombuffer(self._standins.at(name), dtype=loaded).view(s.shape)
            elif s.size > SMALL:
                raise NotCovered(f"{name} is large, and not a matrix")
            else:
                data = bytearray(self._mapped.view(name))
                tensors[name] = torch.frombuffer(data, dtype=_TYPES[s.dtype]).view(s.shape)
        return tensors

    def _saved(self, model: Any, path: Any, compress_to_fp16: bool = True) -> None:
        path = Path(path)
        if path.name not in _GRAPHS:
            self._save(model, path, compress_to_fp16)
        elif self._compresses and self._first is None:
            self._write_first(model, path)
        else:
            self._write_last(model, path, compress_to_fp16)

    def _write_first(self, model: Any, path: Path) -> None:
        """Write what nncf reads: its constants are where the stand-ins are, and no file of data is needed."""
        self._standins.require_unseen("the export")
        xml = self._xml(model, path, halved=False)
        offsets = []
        for node in (n for n in model.get_ordered_ops() if n.get_type_name() == "Constant"):
            name = self._standins.name_at(node.data.ctypes.data, node.get_byte_size()) if node.get_byte_size() else None
            offsets.append(self._standins.place(node.data.tobytes()) if name is None else self._standins.offset(name))
        path.write_bytes(with_offsets(xml, offsets))
        path.with_suffix(".bin").touch()
        self._first = path.resolve()
        self._standins.forget()  # OpenVINO compares constants when it writes them

    def _read(self, core: Any, path: Path, args: Any, kwargs: Any) -> Any:
        if path != self._first:
            return core.read_model(path, *args, **kwargs)
        everything = np.frombuffer(self._standins.everything(), np.uint8)
        return core.read_model(
            path.read_bytes(), openvino.Tensor(everything, openvino.Shape([len(everything)]), openvino.Type.u8)
        )

    def _write_last(self, model: Any, path: Path, halved: bool) -> None:
        """Write the graph, with a file of holes for its data, and plan that file."""
        if halved and self._loaded is torch.float32:
            raise NotCovered("weights in 32 bits become 16 by what they are")
        self._standins.require_unseen("the compression" if self._compresses else "the export")
        xml = self._xml(model, path, halved=halved)
        loaded = str(self._loaded).removeprefix("torch.")
        found = constants(model, xml, self._standins, self._parts, loaded)
        if set(weights(found)) != set(self._standins.sizes):
            raise NotCovered("not every weight of the source is one of the model")
        # Small constants are there for who reads this file before the weights are: shapes are computed from some.
        offsets, end = [], max((c.size for c in found), default=0)
        with path.with_suffix(".bin").open("wb") as file:
            file.truncate(end)
            file.seek(end)
            for constant in found:
                offsets.append(file.tell() if isinstance(constant.made_of, bytes) else 0)
                file.write(constant.made_of if isinstance(constant.made_of, bytes) else b"")
        path.write_bytes(with_offsets(xml, offsets))
        self.constants = tuple(found)

    def _xml(self, model: Any, path: Path, *, halved: bool) -> bytes:
        """Return the graph as OpenVINO writes it. The data goes nowhere, so the places that it names mean nothing."""
        folder = path.with_suffix(".graph")
        folder.mkdir()
        (folder / "model.bin").symlink_to("/dev/null")
        self._save(model, folder / "model.xml", halved)
        xml = (folder / "model.xml").read_bytes()
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        return xml


class _Core:
    """OpenVINO's core, but for reading models."""

    def __init__(self, core: Any, read: Any) -> None:
        self._core, self._read = core, read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def read_model(self, path: Path, *args: Any, **kwargs: Any) -> Any:
        return self._read(self._core, path, args, kwargs)
