"""Prefixes that tools put before all names of a model's tensors: what wraps it while it is trained is saved with it.

``torch.compile`` saves ``_orig_mod.…``, peft ``base_model.model.…``, training on several devices ``module.…``. Only the
names differ, so such a model is read without them. All of its tensors have to have the same one.
"""

from collections.abc import Iterable

from bot.errors import OtherWeightsError

#: What may stand before a name, also one behind the other; ``model.`` only where a whole name follows it.
WRAPPERS = ("_orig_mod.", "base_model.model.", "module.", "_fsdp_wrapped_module.", "model.")
_BODY = ("embed_tokens", "layers", "norm", "final_layernorm", "rotary_emb")
_TOWERS = ("vision_embed_tokens", "embed_tokens_extend", "vision_tower", "mm_projector")
_ROOTS = ("lm_head.", *(f"model.{part}." for part in (*_BODY, *_TOWERS)))  # that names of Phi's own classes begin with
_MOST = 16  # wrappers: a name may have millions


def bare_names(tensors: Iterable[str], *, where: str) -> dict[str, str]:
    """Return the names of a model's tensors without the prefix that all have, each with the one it is stored under.

    A name that does not go on as one of Phi's has no prefix here: what knows the class refuses it. Raises
    OtherWeightsError where tensors are stored under several prefixes, naming one of each.
    """
    tensors = tuple(tensors)
    first: dict[str, str] = {}
    for name in tensors:
        prefix = _prefix_of(name)
        if prefix is not None:
            first.setdefault(prefix, name)
    if len(first) > 1:
        one, other = (first[p] for p in sorted(first)[:2])
        raise OtherWeightsError(
            f"{where} has its tensors under several prefixes, as {one[:100]!a} and {other[:100]!a}",
            hint="Load them with safetensors' load_file, rename them, and save them with save_file.",
        )
    prefix = next(iter(first), "")
    return {(name if _prefix_of(name) is None else name[len(prefix) :]): name for name in tensors}


def prefix_note(names: dict[str, str]) -> str:
    """Return a line for a person where names that ``bare_names`` returned are stored under a prefix, else ""."""
    bare, stored = next(((b, s) for b, s in names.items() if b != s), ("", ""))
    prefix = stored.removesuffix(bare)
    return f"its tensors are stored under the prefix {prefix!a}, and are read without it" if prefix else ""


def _prefix_of(name: str) -> str | None:
    """Return what stands before a name that goes on as one of Phi's; None for one that does not."""
    rest = name
    for _ in range(_MOST):
        if rest.startswith(_ROOTS):
            return name[: len(name) - len(rest)]
        wrapper = next((w for w in WRAPPERS if rest.startswith(w)), None)
        if wrapper is None:
            return None
        rest = rest.removeprefix(wrapper)
    return None
