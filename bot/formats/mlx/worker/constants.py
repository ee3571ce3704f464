"""The numbers beside the weights of an MLX model, as mlx-lm's own modules hold them."""

from collections.abc import Iterator
from pathlib import Path

from bot.formats.mlx.worker.modules import modules_of
from bot.records.tasks import VerifyTask
from bot.worker.constants import CHOSEN, EPSILON, HEADS, JITTER, KEY_HEADS, SCALE, Constant

_HELD = {
    "self_attn": {
        "scale": SCALE,  # Phi-2's is computed from the size of a head
        "n_heads": HEADS,
        "num_heads": HEADS,
        "n_kv_heads": KEY_HEADS,
        "num_key_value_heads": KEY_HEADS,
    },
    "block_sparse_moe": {"top_k": CHOSEN, "jitter_eps": JITTER},
}


def constants(task: VerifyTask) -> Iterator[Constant]:
    """Yield every number that a module computes with. mlx-lm's Phi models have no sliding window."""
    from mlx import nn

    model = modules_of(Path(task.artifact))
    for path, module in model.named_modules():
        held = {"eps": EPSILON} if isinstance(module, nn.RMSNorm | nn.LayerNorm) else _HELD.get(path.split(".")[-1], {})
        for attribute, what in held.items():
            if attribute in vars(module):
                yield Constant(what=what, where=path, value=getattr(module, attribute))
