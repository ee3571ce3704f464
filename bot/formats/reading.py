"""The memory that the runtime of a format takes to read the longest text that verifying gives it."""

from dataclasses import dataclass

from bot.formats import phi
from bot.records.artifacts import Json

# As bot/worker/windows.py cuts them, in positions.
_WINDOW = 256
_DEEP, _DEEPEST = 1024, 8192
_SWITCH = "original_max_position_embeddings"
_MOST = 1 << 20  # of anything that a config says: it is a stranger's


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a runtime holds, beside what it always does, of a file and of a text that it reads.

    ``held`` is memory over the file's size; what the system can drop and read again is counted once. ``cached`` are
    bytes for each key and each value of a position: 0 where verifying can do without a cache. ``states`` are numbers
    of 4 bytes for each position and each dimension of the model's states. ``unpacked`` are bytes that each weight of
    the model takes beside the file, however few it has there.
    """

    held: float
    cached: int
    states: int
    unpacked: float = 0.0

    def memory(self, config: dict[str, Json], output: float, weights: int) -> float:
        """Return the bytes for a file of ``output`` bytes of a model of so many ``weights``.

        ``config`` is its config.json, which is untrusted.
        """
        width = _number(config, "hidden_size", 0)
        a_position = self.cached * _keys_and_values(config) + 4 * self.states * width
        return self.held * output + self.unpacked * weights + longest_window(config) * a_position


def longest_window(config: dict[str, Json]) -> int:
    """Return the positions of the window that reaches farthest: past a LongRoPE switch, or a sliding window."""
    longest = _number(config, "max_position_embeddings", _DEEP + 1) - 1
    rope = phi.rope_scaling(config) if phi.is_longrope(config) else {}
    switch = _number(rope, _SWITCH, _number(config, _SWITCH, 0))
    if rope and 0 < switch <= longest + 1 - _WINDOW:
        return switch + _WINDOW
    sliding = _number(config, "sliding_window", 0)
    return min(sliding + _WINDOW if 0 < sliding < min(longest, _DEEPEST) else _DEEP, longest)


def _keys_and_values(config: dict[str, Json]) -> int:
    """Return how many numbers a position leaves in a cache, in all layers."""
    heads = _number(config, "num_attention_heads", 1)
    size = _number(config, "head_dim", _number(config, "hidden_size", 0) // heads)
    return 2 * _number(config, "num_hidden_layers", 1) * _number(config, "num_key_value_heads", heads) * size


def _number(config: dict[str, Json], key: str, otherwise: int) -> int:
    return min(phi.number(config, key, otherwise), _MOST)
