"""What an adapter changes: each of its tensors has its place in a tensor of the base, or the adapter is refused.

peft names what a LoRA adds to the matrix ``M.weight`` ``base_model.model.M.lora_A.weight`` (rank, inputs) and
``….lora_B.weight`` (outputs, rank), the magnitudes of a DoRA ``M.lora_magnitude_vector`` (outputs), and what it stores
whole ``base_model.model.M.weight``. An adapter may have been trained on a copy of the base whose matrices are apart, or
joined where the base's are apart: rows of the one are then rows of the other, for each row is changed by itself.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from bot.errors import AdapterError
from bot.records.artifacts import Json
from bot.source.fit import lengths
from bot.source.joined import JOINED
from bot.source.lora import Lora
from bot.source.safetensors_files import Tensor
from bot.source.tensors import EMBEDDING, HEAD

WEIGHTS = "adapter_model.safetensors"

_LONGEST = 300  # characters of a tensor's name; peft's have some 80
_FLOATS = {"BF16": 2, "F16": 2, "F32": 4}  #: bytes of an element
_ADDED = re.compile(
    r"base_model\.model\.(?P<module>[\w.]+?)\.(?P<part>lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector)"
    r"(?:\.default)?(?:\.weight)?"
)
_SAVED = re.compile(
    r"base_model\.model\.(?P<module>[\w.]+?)(?:\.modules_to_save(?:\.default)?|\.base_layer)?\.(?P<end>weight|bias)"
)
_OF_VOCABULARY = (EMBEDDING, HEAD, "lm_head.bias")
_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_RANK = {"lora_A": 0, "lora_B": 1, "lora_embedding_A": 0, "lora_embedding_B": 1}  #: which length is the rank
_MAGNITUDE = "lora_magnitude_vector"
_MERGE = "Merge it with peft (merge_and_unload(), then save_pretrained), and give the merged model."
_AGAIN = "Download the adapter again, or save it again with peft."


@dataclass(frozen=True, kw_only=True)
class Rows:
    """``count`` rows of something of the adapter's, from its row ``first``, that belong to row ``at`` of the base's."""

    first: int
    at: int
    count: int

    def overlap(self, other: "Rows") -> bool:
        """Say whether both have a row of the base's."""
        return self.at < other.at + other.count and other.at < self.at + self.count


@dataclass(frozen=True, kw_only=True)
class Saved:
    """Rows that the adapter's tensor ``name`` holds whole."""

    rows: Rows
    name: str


@dataclass(frozen=True, kw_only=True)
class Added:
    """Rows of ``scale`` times the product of two of the adapter's tensors, (rows, rank) and (rank, inputs).

    Those of an embedding are stored ``turned``. With a ``magnitude``, the rows of the sum are scaled to these lengths.
    """

    rows: Rows
    left: str
    right: str
    turned: bool
    scale: float
    magnitude: str = ""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What becomes of a tensor: rows are first ``saved`` over, and then ``added`` to.

    ``shape`` is that of the result, and ``dtype`` the base's, in which it is stored.
    """

    shape: tuple[int, ...]
    dtype: str
    saved: tuple[Saved, ...] = ()
    added: tuple[Added, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Say whether nothing of the base's tensor is left."""
        return sum(s.rows.count for s in self.saved) == self.shape[0]

    @property
    def size(self) -> int:
        """Bytes of the result."""
        return math.prod(self.shape) * _FLOATS[self.dtype]


def changes(
    adapter: Mapping[str, Tensor], lora: Lora, base: Mapping[str, Tensor], config: dict[str, Json], *, where: str
) -> dict[str, Change]:
    """Return what becomes of the tensors of a base, by their names; those that stay as they are are left out.

    ``adapter`` are the tensors of adapter_model.safetensors, ``base`` those of the base, as its ``config`` asks for
    them. Raises AdapterError, naming the tensor, for one that has no place in the base, or another shape, type or rank
    than it must have, for a matrix that is changed in some layers alone, and for what has two meanings.
    """
    reading = _Reading(adapter, lora, base, lengths(config), where)
    added, saved = reading.sorted_out()
    for (module, end), name in sorted(saved.items()):
        reading.save(module, end, name)
    for module, parts in sorted(added.items()):
        reading.add(module, parts)
    reading.check_complete(added.keys(), lora.targets, "target_modules")
    reading.check_complete({module for module, _ in saved}, lora.saved, "modules_to_save")
    reading.check_vocabulary()
    return reading.found


def merged_tensors(base: Mapping[str, Tensor], found: Mapping[str, Change]) -> dict[str, Tensor]:
    """Return the tensors of the merged model, each with its bytes counted from 0."""
    merged = {n: Tensor(dtype=t.dtype, shape=t.shape, begin=0, end=t.end - t.begin) for n, t in base.items()}
    changed = {n: Tensor(dtype=c.dtype, shape=c.shape, begin=0, end=c.size) for n, c in found.items()}
    return merged | changed


def vocabulary_of(adapter: Mapping[str, Tensor]) -> int | None:
    """Return the rows of an embedding or an output matrix that an adapter stores whole, None without one."""
    for name, tensor in sorted(adapter.items()):
        match = _SAVED.fullmatch(name) if len(name) <= _LONGEST else None
        if match and f"{match['module']}.{match['end']}" in (EMBEDDING, HEAD) and tensor.shape:
            return tensor.shape[0]
    return None


class _Reading:
    """The tensors of an adapter on their way to ``found``, the changes of the base's."""

    def __init__(
        self,
        adapter: Mapping[str, Tensor],
        lora: Lora,
        base: Mapping[str, Tensor],
        sizes: Mapping[str, int],
        where: str,
    ) -> None:
        self.found: dict[str, Change] = {}
        self._adapter, self._lora, self._base, self._where = adapter, lora, base, where
        self._tied = HEAD not in base and EMBEDDING in base
        queries, keys, inner = (sizes.get(name, 0) for name in ("queries", "keys", "inner"))
        self._within = {
            "self_attn.q_proj": (0, queries),
            "self_attn.k_proj": (queries, keys),
            "self_attn.v_proj": (queries + keys, keys),
            "mlp.gate_proj": (0, inner),
            "mlp.up_proj": (inner, inner),
        }

    def sorted_out(self) -> tuple[dict[str, dict[str, str]], dict[tuple[str, str], str]]:
        """Return the names of tensors that add to a module, by module and part, and of those that are stored whole."""
        added: dict[str, dict[str, str]] = {}
        saved: dict[tuple[str, str], str] = {}
        for name, tensor in sorted(self._adapter.items()):
            if tensor.dtype not in _FLOATS:
                raise self._wrong(name, f"is stored as {tensor.dtype}, not as one of {', '.join(_FLOATS)}", _MERGE)
            if not tensor.shape or 0 in tensor.shape:
                raise self._wrong(name, f"has the shape {list(tensor.shape)}")
            short = name if len(name) <= _LONGEST else ""
            if match := _ADDED.fullmatch(short):
                twice = added.setdefault(match["module"], {}).setdefault(match["part"], name)
            elif match := _SAVED.fullmatch(short):
                twice = saved.setdefault((match["module"], match["end"]), name)
            else:
                raise self._wrong(name, "is not one of a LoRA's", _MERGE)
            if twice != name:
                raise self._wrong(name, f"is there a second time, as {twice!a}")
        if not added and not saved:
            raise AdapterError(f"{WEIGHTS} of {self._where} holds no tensors", hint=_AGAIN)
        return added, saved

    def save(self, module: str, end: str, name: str) -> None:
        """Have the rows of what a tensor of the adapter stores whole."""
        stored = self._adapter[name]
        for tensor, rows in self._places(module, end, stored.shape[0], name, resized=True):
            change = self._change(tensor)
            if stored.shape[1:] != change.shape[1:]:
                raise self._misfit(name, tensor)
            shape = stored.shape if tensor in _OF_VOCABULARY else change.shape
            if any(s.rows.overlap(rows) for s in change.saved):
                raise self._wrong(name, f"is of rows of {tensor} that are stored a second time")
            self.found[tensor] = replace(change, shape=shape, saved=(*change.saved, Saved(rows=rows, name=name)))

    def add(self, module: str, parts: Mapping[str, str]) -> None:
        """Have the rows of what two tensors of the adapter add to a module."""
        turned = any(part.startswith("lora_embedding") for part in parts)
        left, right = ("lora_embedding_A", "lora_embedding_B") if turned else ("lora_B", "lora_A")
        there = next(iter(parts.values()))
        for part in (left, right):
            if part not in parts:
                raise self._wrong(there, f"has no {part} beside it")
        self._check_parts(module, parts, turned=turned)
        first, second = self._adapter[parts[left]].shape, self._adapter[parts[right]].shape
        outputs, inputs = (first[1], second[0]) if turned else (first[0], second[1])
        for tensor, rows in self._places(module, "weight", outputs, parts[left], resized=False):
            change = self._change(tensor)
            if change.shape[1:] != (inputs,):
                raise self._misfit(parts[right], tensor)
            new = Added(
                rows=rows,
                left=parts[left],
                right=parts[right],
                turned=turned,
                scale=self._lora.scale_of(module),
                magnitude=parts.get(_MAGNITUDE, ""),
            )
            if any(a.rows.overlap(rows) for a in change.added):
                raise self._wrong(parts[left], f"is of rows of {tensor} that are added to a second time")
            self.found[tensor] = replace(change, added=(*change.added, new))

    def check_complete(self, modules: Collection[str], names: Collection[str], key: str) -> None:
        """Check that what adapter_config.json names is changed in all layers."""
        layers = {match[0] for name in self._base if (match := _LAYER.match(name))}
        ends = {name.removesuffix(".weight") for name in self._base if name.endswith(".weight")}
        for wanted in names:
            changed = {m for m in modules if m == wanted or m.endswith(f".{wanted}")}
            lost = {m for m in ends if m == wanted or m.endswith(f".{wanted}")} - changed
            if changed and all(_LAYER.match(m) for m in changed) and not lost:
                lost = layers - {match[0] for m in changed if (match := _LAYER.match(m))}
            if lost:
                raise AdapterError(
                    f"{WEIGHTS} of {self._where} holds nothing for {min(lost).removesuffix('.')}, "
                    f"and adapter_config.json names {wanted[:60]!a} in {key}",
                    hint=_AGAIN,
                )

    def check_vocabulary(self) -> None:
        """Check that embedding and output matrix stay those of one vocabulary, and what becomes of tied ones."""
        embedding, head = self.found.get(EMBEDDING), self.found.get(HEAD)
        if self._tied and embedding is not None and (embedding.added or (head is None and not self._lora.tied)):
            raise AdapterError(
                f"{self._where} changes the embedding, which is the output matrix too in its base "
                "(tie_word_embeddings), and does not say what becomes of that",
                hint=_MERGE,
            )
        rows = {
            name: change.shape[0] if change else self._base[name].shape[0]
            for name, change in ((EMBEDDING, embedding), (HEAD, head))
            if change or name in self._base
        }
        if len(set(rows.values())) > 1:
            raise AdapterError(
                f"{self._where} has {rows[EMBEDDING]} rows of the embedding with its base, and {rows[HEAD]} of the "
                "output matrix: they are those of two vocabularies",
                hint="Save both with the adapter (peft: save_embedding_layers=True).",
            )

    def _places(self, module: str, end: str, rows: int, name: str, *, resized: bool) -> list[tuple[str, Rows]]:
        """Return the tensors that the ``rows`` rows of a module are of, and which. ``name`` is the adapter's tensor.

        With ``resized``, those of a vocabulary may be as many as they are.
        """
        tensor = f"{module}.{end}"
        if tensor in self._base or (resized and self._tied and tensor == HEAD):
            if not (resized and tensor in _OF_VOCABULARY) and self._change(tensor).shape[0] != rows:
                raise self._misfit(name, tensor)
            return [(tensor, Rows(first=0, at=0, count=rows))]
        for whole, parts in JOINED.items():
            for part in (whole, *parts):
                start = module.removesuffix(part)
                if start != module and part == whole and all(f"{start}{p}.{end}" in self._base for p in parts):
                    return self._apart([f"{start}{p}.{end}" for p in parts], rows, name)
                if start != module and part != whole and (tensor := f"{start}{whole}.{end}") in self._base:
                    at, count = self._within[part]
                    if count != rows or at + count > self._base[tensor].shape[0]:
                        raise self._misfit(name, tensor)
                    return [(tensor, Rows(first=0, at=at, count=count))]
        if self._tied and f"{module}.{end}" == HEAD:
            raise self._wrong(name, "adds to the output matrix, which is the embedding in its base", _MERGE)
        raise self._wrong(name, f"is of {f'{module}.{end}'[:80]!a}, which its base does not have", _MERGE)

    def _apart(self, names: list[str], rows: int, name: str) -> list[tuple[str, Rows]]:
        counts = [self._base[n].shape[0] for n in names]
        if sum(counts) != rows:
            raise self._misfit(name, names[0])
        starts = [sum(counts[:n]) for n in range(len(counts))]
        return [(n, Rows(first=s, at=0, count=c)) for n, s, c in zip(names, starts, counts, strict=True)]

    def _change(self, tensor: str) -> Change:
        there = self._base[EMBEDDING if tensor == HEAD and self._tied else tensor]
        if there.dtype not in _FLOATS:
            raise AdapterError(
                f"{self._where} changes {tensor}, which its base stores as {there.dtype}",
                hint=f"Give a base that is stored as one of {', '.join(_FLOATS)}.",
            )
        return self.found.get(tensor) or Change(shape=there.shape, dtype=there.dtype)

    def _check_parts(self, module: str, parts: Mapping[str, str], *, turned: bool) -> None:
        """Check the shapes and the rank of what is added to a module, and that it has magnitudes if it should."""
        rank, there = self._lora.rank_of(module), next(iter(parts.values()))
        for part, name in parts.items():
            shape = self._adapter[name].shape
            if len(shape) != (1 if part == _MAGNITUDE else 2):
                raise self._wrong(name, f"has the shape {list(shape)}")
            if part in _RANK and shape[_RANK[part]] != rank:
                raise self._wrong(name, f"has rank {shape[_RANK[part]]}, and by adapter_config.json it is {rank}")
        if turned and (len(parts) > 2 or self._lora.dora):
            raise self._wrong(there, "is of an embedding, which a DoRA or another matrix is added to", _MERGE)
        if (_MAGNITUDE in parts) != self._lora.dora:
            said = "says use_dora" if self._lora.dora else "does not say use_dora"
            raise self._wrong(there, f"has {'no ' if self._lora.dora else 'a '}{_MAGNITUDE}, and the config {said}")
        if self._lora.dora and self._adapter[parts[_MAGNITUDE]].shape[0] != self._adapter[parts["lora_B"]].shape[0]:
            raise self._wrong(parts[_MAGNITUDE], f"has the shape {list(self._adapter[parts[_MAGNITUDE]].shape)}")

    def _misfit(self, name: str, tensor: str) -> AdapterError:
        shape = self._base[EMBEDDING if tensor == HEAD and self._tied else tensor].shape
        return self._wrong(
            name,
            f"has the shape {list(self._adapter[name].shape)}, which does not fit {tensor} {list(shape)} of its base",
        )

    def _wrong(self, name: str, what: str, hint: str = _AGAIN) -> AdapterError:
        return AdapterError(f"{WEIGHTS} of {self._where}: {name[:120]!a} {what}", hint=hint)
