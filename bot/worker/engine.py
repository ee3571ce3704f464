"""A Phi run on a few ids while its weights come by, one after the other, in the order in which a model computes.

This is what the weights inside an artifact mean, whatever runtime they are for: it gives logits to hold the runtime's
against. A matrix is multiplied with as it comes and is not kept, so reading an artifact once serves this and the
comparison of its weights, and the memory that it takes does not grow with the model. Needs numpy alone: not every
toolchain has torch.

It computes in two arithmetics side by side. One is float32; the other rounds what the runtime rounds on its way (see
rounding.py), and says by its distance from the first how far off a right runtime may be.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bot.records.artifacts import Json
from bot.worker.rotary import Rotary
from bot.worker.rounding import Arithmetic, Rounding

Array = Any  # numpy is not installed where mypy runs

HEAD = "lm_head"
EMBEDDING = "model.embed_tokens"

_IN_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_EXPERT = re.compile(r"block_sparse_moe\.experts\.(\d+)\.w([123])")
_ROUTER = "block_sparse_moe.gate"
_ATTENTION_OUT = ("self_attn.o_proj", "self_attn.dense")


class OrderError(ValueError):
    """Weights that did not come, or that came before what is computed from them could be."""


class Engine:
    """One model on texts of one length, from empty contexts.

    States have the shape (arithmetics, texts, positions, size); the first arithmetic is float32.
    """

    def __init__(self, config: Json, rotary: Rotary, texts: Sequence[Sequence[int]], arithmetic: Arithmetic) -> None:
        """Begin with the config of the source, the angles of the artifact, and ids of which none passes a switch."""
        self._config, self._arithmetic, self._ids = config, arithmetic, np.asarray(texts)
        self._arms = 1 if arithmetic.exact else 2
        self._states: Array = np.full((self._arms, *self._ids.shape, config["hidden_size"]), np.nan, dtype=np.float32)
        self._turns = _turns(rotary, self._ids.shape[1])
        self._layer, self._embedded = 0, 0
        self._vectors: dict[str, Array] = {}
        self._products: dict[str, list[Array]] = {}  # of the layer at hand: inputs times rows of a matrix
        self._known: dict[str, Array] = {}  # of the layer at hand: what was computed from them

    def take(self, name: str, first: int, values: Array, rounding: Rounding | None = None) -> None:
        """Take rows of a tensor of the source, in float32, from the row ``first`` on; all of a vector.

        ``rounding`` is what the runtime does to that which a matrix is multiplied with. An embedding that is the output
        matrix too has to come once more in the end, as ``lm_head.weight``. Raises OrderError.
        """
        module = name.rpartition(".")[0]
        if values.ndim == 1:
            self._vectors[name] = values.copy()  # the memory may be of the next part soon
        elif module == EMBEDDING:
            self._embed(first, values)
        else:
            states = self._rounded(module, rounding)
            product = states.reshape(-1, states.shape[-1]) @ values.T
            self._products.setdefault(module, []).append(product.reshape(*states.shape[:-1], len(values)))

    def logits(self) -> Array:
        """Return float32 logits of shape (arithmetics, texts, positions, vocabulary), once all weights have come."""
        return self._linear(HEAD)

    def _embed(self, first: int, values: Array) -> None:
        if first != self._embedded:  # an output matrix that is the embedding, and stored beside it
            return
        self._embedded += len(values)
        here = (self._ids >= first) & (self._ids < first + len(values))
        self._states[:, here] = values[self._ids[here] - first]
        self._states = self._stepped(self._states)

    # ---- arithmetic ------------------------------------------------------------------------------------------

    def _rounded(self, module: str, rounding: Rounding | None) -> Array:
        """Return what a matrix is multiplied with, in the second arithmetic as the runtime rounds it before."""
        if self._arms == 1 or rounding is None:
            return self._input(module)
        return self._once(f"{module} {id(rounding)}", lambda: self._in_second(rounding, self._input(module)))

    def _stepped(self, states: Array) -> Array:
        return states if self._arithmetic.states is None else self._in_second(self._arithmetic.states, states)

    def _cached(self, states: Array) -> Array:
        return states if self._arithmetic.cache is None else self._in_second(self._arithmetic.cache, states)

    @staticmethod
    def _in_second(rounding: Rounding, states: Array) -> Array:
        exact, second = states
        return np.stack([exact, rounding(second.reshape(-1, second.shape[-1])).reshape(second.shape)])

    # ---- what a model computes -------------------------------------------------------------------------------

    def _once(self, key: str, compute: Callable[[], Array]) -> Array:
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def _linear(self, module: str) -> Array:
        if module not in self._products:
            raise OrderError(f"{module}.weight did not come before what is computed from it")
        result = np.concatenate(self._products[module], axis=-1)
        bias = self._vectors.get(f"{module}.bias")
        return self._stepped(result if bias is None else result + bias)

    def _input(self, module: str) -> Array:
        """Return what a matrix is multiplied with: of all positions, or of those that an expert gets."""
        if module == HEAD:
            return self._once(module, self._before_head)
        number, part = self._place(module)
        layer = f"model.layers.{number}"
        if part in _ATTENTION_OUT:
            return self._once("attended", lambda: self._attended(layer))
        if part.startswith("self_attn.") or part == "mlp.fc1":  # Phi's feed-forward part stands beside attention
            return self._once("first norm", lambda: self._norm(f"{layer}.input_layernorm", self._states))
        if part in ("mlp.down_proj", "mlp.fc2"):
            return self._once("activated", lambda: self._activated(layer))
        expert = _EXPERT.fullmatch(part)
        if expert and expert[2] == "2":
            return self._once(part, lambda: self._gated(*(self._linear(module[:-1] + n) for n in "13")))
        states = self._once("second norm", lambda: self._norm(f"{layer}.post_attention_layernorm", self._middle(layer)))
        return states if expert is None else _flat(states)[:, None, self._sent(expert[1])]

    def _place(self, module: str) -> tuple[int, str]:
        """Return the number of a module's layer, which is entered, and its name in it."""
        found = _IN_LAYER.fullmatch(module)
        if found is None:
            raise OrderError(f"{module} does not belong to a Phi")
        while self._layer < int(found[1]):
            self._leave()
        if self._layer > int(found[1]):
            raise OrderError(f"{module}.weight came after the weights of layer {self._layer}")
        return self._layer, found[2]

    def _leave(self) -> None:
        """Finish the layer at hand, and forget what is known of it."""
        layer = f"model.layers.{self._layer}"
        if self._config["model_type"] == "phi":
            added = self._linear(f"{layer}.self_attn.dense") + self._linear(f"{layer}.mlp.fc2")
            states = self._stepped(added) + self._states
        elif self._config["model_type"] == "phimoe":
            states = self._middle(layer) + self._mixed(layer)
        else:
            states = self._middle(layer) + self._linear(f"{layer}.mlp.down_proj")
        self._states = self._stepped(states)
        self._layer += 1
        self._known.clear()
        self._products.clear()

    def _before_head(self) -> Array:
        while self._layer < self._config["num_hidden_layers"]:
            self._leave()
        name = "model.final_layernorm" if self._config["model_type"] == "phi" else "model.norm"
        return self._norm(name, self._states)

    def _norm(self, module: str, states: Array) -> Array:
        weight, bias = (self._vectors.get(f"{module}.{kind}") for kind in ("weight", "bias"))
        if weight is None:
            raise OrderError(f"{module}.weight did not come before what is computed from it")
        kind = self._config["model_type"]
        if kind == "phi" or (kind == "phimoe" and not self._arithmetic.phimoe_as_phi3):  # LayerNorm, others RMSNorm
            states = states - states.mean(axis=-1, keepdims=True)
        epsilon = self._config.get("rms_norm_eps") or self._config["layer_norm_eps"]
        scale = 1 / np.sqrt(np.square(states).mean(axis=-1, keepdims=True) + np.float32(epsilon))
        result = states * scale * weight
        return self._stepped(result if bias is None else result + bias)

    def _middle(self, layer: str) -> Array:
        return self._once("middle", lambda: self._stepped(self._states + self._linear(f"{layer}.self_attn.o_proj")))

    # ---- attention -------------------------------------------------------------------------------------------

    def _attended(self, layer: str) -> Array:
        query, key, value = self._heads(layer)
        shared = query.shape[3] // key.shape[3]
        query, key = self._cached(self._turned(query)), self._cached(self._turned(key))
        key, value = (np.repeat(x, shared, axis=3) for x in (key, self._cached(value)))
        scores = np.einsum("atqhd,atkhd->athqk", query, key, optimize=True) / math.sqrt(query.shape[-1])
        scores = np.where(self._seen(), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        states = np.einsum("athqk,atkhd->atqhd", weights, value, optimize=True)
        return self._stepped(states.reshape(*states.shape[:3], -1))

    def _heads(self, layer: str) -> tuple[Array, Array, Array]:
        """Return queries, keys and values of shape (arithmetics, texts, positions, heads, size of a head)."""
        config, start = self._config, f"{layer}.self_attn."
        heads = config["num_attention_heads"]
        shared = config.get("num_key_value_heads") or heads
        if f"{start}qkv_proj" in self._products:
            joined = self._linear(f"{start}qkv_proj")
            size = joined.shape[-1] // (heads + 2 * shared)
            parts = np.split(joined, [heads * size, (heads + shared) * size], axis=-1)
        else:
            parts = [self._linear(f"{start}{name}_proj") for name in "qkv"]
        query, key, value = (
            x.reshape(*x.shape[:3], n, -1) for x, n in zip(parts, (heads, shared, shared), strict=True)
        )
        if config.get("qk_layernorm"):
            query, key = (self._norm(f"{start}{name}_layernorm", x) for name, x in (("q", query), ("k", key)))
        return query, key, value

    def _turned(self, states: Array) -> Array:
        cosine, sine, scale = self._turns
        half = cosine.shape[-1]
        rest = states[..., 2 * half :]
        first, second = np.split(self._stepped(states[..., : 2 * half] * scale), 2, axis=-1)
        turned = (first * cosine - second * sine, second * cosine + first * sine, rest)
        return self._stepped(np.concatenate(turned, axis=-1))

    def _seen(self) -> Array:
        """Return which keys (last axis) each position looks at."""
        at = np.arange(self._ids.shape[1])
        behind = at[:, None] - at
        return (behind >= 0) & (behind < (self._config.get("sliding_window") or math.inf))

    # ---- feed-forward parts ----------------------------------------------------------------------------------

    def _activated(self, layer: str) -> Array:
        if self._config["model_type"] == "phi":
            return self._stepped(_gelu(self._linear(f"{layer}.mlp.fc1")))
        gate, up = np.split(self._linear(f"{layer}.mlp.gate_up_proj"), 2, axis=-1)
        return self._gated(gate, up)

    def _gated(self, gate: Array, up: Array) -> Array:
        return self._stepped(self._stepped(gate * self._stepped(_sigmoid(gate))) * up)

    def _shares(self) -> Array:
        """Return the weight of each expert: of shape (arithmetics, positions of all texts, experts)."""
        router = f"model.layers.{self._layer}.{_ROUTER}"
        return self._once("routed", lambda: _flat(self._routed(self._linear(router))))

    def _routed(self, scores: Array) -> Array:
        if self._arithmetic.phimoe_as_phi3:
            return _softmax_of_two(scores)
        return _sparse_mixer(scores, 2 * self._config.get("router_jitter_noise", 0.01), self._stepped)

    def _sent(self, expert: str) -> Array:
        """Return which positions of all texts an expert gets, in either arithmetic."""
        return np.flatnonzero(self._shares()[..., int(expert)].any(axis=0))

    def _mixed(self, layer: str) -> Array:
        """Return the sum of what the experts say, each with its weight."""
        result = np.zeros_like(_flat(self._states))
        for expert in range(self._config["num_local_experts"]):
            places = self._sent(str(expert))
            said = _flat(self._linear(f"{layer}.block_sparse_moe.experts.{expert}.w2"))
            result[:, places] += self._stepped(said * self._shares()[:, places, expert, None])
        return self._stepped(result.reshape(self._states.shape))


def _flat(states: Array) -> Array:
    """Return states with the positions of all texts one after the other: (arithmetics, positions, size)."""
    return states.reshape(len(states), -1, states.shape[-1])


def _turns(rotary: Rotary, positions: int) -> tuple[Array, Array, Array]:
    """Return cosines and sines of shape (positions, 1, pairs) and their scale: the long ones if there are no others."""
    long = rotary.short is None
    angles, scale = (rotary.long, rotary.long_scale) if long else (rotary.short, rotary.short_scale)
    turns = np.arange(positions)[:, None, None] * np.asarray(angles, dtype=np.float64)
    cosine, sine = (f(turns).astype(np.float32) for f in (np.cos, np.sin))
    return cosine, sine, np.float32(1.0 if scale is None else scale)


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + 0.044715 * x**3)))


def _softmax_of_two(scores: Array) -> Array:
    """Return the weight of each expert (last axis) at each position: a softmax over the two of the highest scores."""
    weights, chosen = np.zeros_like(scores), np.argsort(scores, axis=-1)[..., :-3:-1]
    best = np.take_along_axis(scores, chosen, axis=-1)
    shares = np.exp(best - best[..., :1])
    np.put_along_axis(weights, chosen, shares / shares.sum(axis=-1, keepdims=True), axis=-1)
    return weights


def _sparse_mixer(scores: Array, noise: float, step: Rounding) -> Array:
    """Return the weight of each expert (last axis) at each position: of two, by sparse mixing (Liu et al., 2024).

    ``step`` rounds as a runtime does after each step: that moves experts into the band of the best, and out of it.
    """
    weights, left, band = np.zeros_like(scores), scores.copy(), step(np.full_like(scores, noise))
    for _ in range(2):
        best = left.max(axis=-1, keepdims=True)
        gap = step(step(best - scores) / np.maximum(np.abs(scores), best))
        near = np.isfinite(left) & (gap <= band)
        exponents = np.where(near, np.exp(np.where(near, left - best, 0)), 0)
        chosen = left.argmax(axis=-1)[..., None]
        share = step(np.take_along_axis(exponents, chosen, axis=-1) / exponents.sum(axis=-1, keepdims=True))
        np.put_along_axis(weights, chosen, share, axis=-1)
        np.put_along_axis(left, chosen, -np.inf, axis=-1)
    return weights
