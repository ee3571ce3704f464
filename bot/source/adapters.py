"""Adapters (LoRA and the like): a few weights that change a base model.

They are not a model until they are merged into it. A LoRA that is alone in its repo is merged as its base is read (see
merged.py). Beside the weights of a model nothing tells whether these have it already; left out, it would leave the base
under the name of the tune. So a model with an adapter is refused, by the names of its files and of its tensors.
"""

import re
from collections.abc import Callable, Iterable

from bot.errors import AdapterError, DamagedWeightsError, PicklesOnlyError
from bot.records.artifacts import Json
from bot.records.digests import ADAPTER_CONFIG, CONTENT_FILES
from bot.source.lora import called
from bot.source.names import NOTICES

_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".npz", ".gguf")
_NAMED = re.compile(r"(^|[^a-z0-9])((q|rs)?lora|dora|ia3|adapters?)([^a-z0-9]|$)", re.IGNORECASE)
# The parts of tensors' names that peft gives what it adds, or what it wraps.
_TENSORS = re.compile(
    r"(^|[._])(lora_(A|B|E|embedding_[AB]|magnitude_vector|ranknum)|ia3_l|hada_w[12]_[ab]|lokr_w[12]|oft_[rR]|vera_lambda"
    r"|lora_[ab]|lora_(up|down)|prompt_embeddings|modules_to_save|original_module|base_layer)([._]|$)"
)
_ALONE = "adapter_model.safetensors"
_PICKLES = (".bin", ".pt", ".pth")
_MODELS = re.compile(r"(pytorch_model.*\.bin|.*\.safetensors(\.index\.json)?)")


def is_adapter(paths: Iterable[str]) -> bool:
    """Say whether a repo or folder is an adapter by itself: its config is there, and no weights of a model."""
    names = {p for p in paths if "/" not in p}
    return ADAPTER_CONFIG in names and not any(_MODELS.fullmatch(n) and not _is_adapter(n) for n in names)


def adapter_files(paths: Iterable[str], *, where: str) -> tuple[str, ...]:
    """Return which files of an adapter count, in the order of their names.

    Raises PicklesOnlyError or DamagedWeightsError where its weights are not there as safetensors.
    """
    names = {p for p in paths if "/" not in p}
    if _ALONE not in names:
        pickle = next((n for n in sorted(names) if _is_adapter(n) and n.endswith(_PICKLES)), None)
        if pickle is not None:
            raise PicklesOnlyError(
                f"{where} has its adapter only as a pickle ({pickle}), which is never loaded",
                hint="Ask its owner for safetensors, or convert it on a machine where running its code is safe.",
            )
        raise DamagedWeightsError(
            f"{where} has {ADAPTER_CONFIG}, and no {_ALONE}", hint="Download or save the adapter again."
        )
    beside = (CONTENT_FILES - {"config.json"}) | NOTICES
    return tuple(sorted({ADAPTER_CONFIG, _ALONE, *(names & beside)}))


def check_adapters(paths: Iterable[str], read: Callable[[str], dict[str, Json]], *, where: str) -> None:
    """Raise AdapterError where a model's own folder holds an adapter, alone or beside the weights of its base.

    ``read`` returns the JSON object of a file by its name, or raises ValueError.
    """
    names = {p for p in paths if "/" not in p}
    found = sorted(n for n in names if _is_adapter(n))
    if not found:
        return
    kind, base = _described(read) if ADAPTER_CONFIG in names else ("an", "")
    what = f"{kind} adapter" + (f" of {base}" if base else "")
    if any(n.endswith(".safetensors") and n not in found for n in names):
        raise AdapterError(
            f"{where} holds {what} ({found[0]}) that is not merged into the weights beside it",
            hint=f"If these weights are the merged ones, remove {' and '.join(found[:3])}. If they are the base's, "
            "give the adapter without them, and it is merged as its base is read.",
        )
    raise AdapterError(f"{where} is {what} ({found[0]}), not a whole model", hint=_merge(base))


def check_adapter_tensors(tensors: Iterable[str], *, where: str) -> None:
    """Raise AdapterError where tensors are those of an adapter, by their names."""
    found = sorted(n for n in tensors if _TENSORS.search(n))
    if found:
        raise AdapterError(
            f"{where} holds {found[0][:80]!a}, which belongs to an adapter (LoRA or the like) that is not merged",
            hint=_merge(""),
        )


def adapters_beside(paths: Iterable[str]) -> tuple[str, ...]:
    """Return a line for a person where folders inside a model's hold adapters: transformers does not look there."""
    found = sorted({p.split("/", 1)[0] for p in paths if "/" in p and _is_adapter(p.rsplit("/", 1)[-1])})
    if not found:
        return ()
    shown = ", ".join(f"{ascii(name)[1:-1][:40]}/" for name in found[:3]) + (" and more" if len(found) > 3 else "")
    return (f"there is an adapter in {shown}; it is left out, and the weights beside it are built as they are",)


def _is_adapter(name: str) -> bool:
    return name == ADAPTER_CONFIG or (name.lower().endswith(_WEIGHTS) and _NAMED.search(name) is not None)


def _described(read: Callable[[str], dict[str, Json]]) -> tuple[str, str]:
    """Return what an adapter is called, with its article, and its base; nothing that its config does not say."""
    try:
        config = read(ADAPTER_CONFIG)
    except (ValueError, OSError):
        return "an", ""
    base = config.get("base_model_name_or_path")
    return called(config), ascii(base[:100])[1:-1] if isinstance(base, str) and "peft_type" in config else ""


def _merge(base: str) -> str:
    return (
        f"Merge it into {base or 'its base'} first (peft: merge_and_unload(), then save_pretrained), "
        "and give the merged model."
    )
