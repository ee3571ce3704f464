"""A GGUF file's name, which decides what llama.cpp does with white space: llama_vocab in its src/llama-vocab.cpp.

Which tokens drop the white space behind them a file cannot say. llama.cpp goes by ``general.name``: where that has
"phi-3" or "phi3" in it, all added tokens but three drop it, and a vocabulary without these three and ``</s>`` is not
loaded at all. So the name is what the tokenizer needs, and never just what a person called the model.
"""

import re
from collections.abc import Sequence
from typing import Any

from bot.worker.harness import NotTaken

_NEVER_STRIPPING = {"<unk>", "<s>", "<|endoftext|>"}
_NEEDED = _NEVER_STRIPPING | {"</s>"}
_STRIPS = re.compile("phi-?3", re.IGNORECASE | re.ASCII)
_MASKS = re.compile(
    "modern-bert", re.IGNORECASE | re.ASCII
)  # white space before [MASK] is dropped in a model of such a name
_SHOWN = 3  # tokens named in a message


def names(model_name: str, tokenizer: Any) -> dict[str, str]:
    """Return the metadata that name a model: ``general.name``, and ``general.basename`` where the former is changed.

    llama.cpp reads the first alone. Raises NotTaken for a tokenizer that it would read wrongly under any name.
    """
    strips = _strips(tokenizer)
    if strips and not _STRIPS.search(model_name):
        return {"general.name": f"{model_name} (phi3)"}
    without = model_name if strips else _STRIPS.sub("phi 3", model_name)
    if not strips and "[MASK]" in tokenizer.get_vocab():
        without = _MASKS.sub("modern bert", without)
    return {"general.name": without} | ({} if without == model_name else {"general.basename": model_name})


def _strips(tokenizer: Any) -> bool:
    """Say whether white space has to be dropped behind added tokens. Their flags have to agree, or none may count.

    The padding token is let off, for no prompt has one. Byte-level vocabularies are: llama.cpp does not load them under
    such a name, Phi-4-mini's tokens drop white space all the same, and verifying counts what is read differently.
    """
    if not tokenizer.get_vocab().keys() >= _NEEDED:
        return False
    added = [t for t in tokenizer.added_tokens_decoder.values() if t.content != tokenizer.pad_token]
    if before := [t.content for t in added if t.lstrip]:
        raise NotTaken(
            f"its tokenizer drops the white space before {_some(before)}; llama.cpp keeps it before all tokens"
        )
    dropping = [t.content for t in added if t.rstrip]
    keeping = [t.content for t in added if not t.rstrip and t.content not in _NEVER_STRIPPING]
    dropping_never = [t for t in dropping if t in _NEVER_STRIPPING]
    if dropping and (keeping or dropping_never):
        kept, dropped = (keeping, dropping) if keeping else (sorted(_NEVER_STRIPPING), dropping_never)
        raise NotTaken(
            f"its tokenizer drops the white space behind {_some(dropped)} and keeps it behind {_some(kept)}; llama.cpp "
            "drops it behind all added tokens or behind none, as a GGUF file cannot say for which ones"
        )
    return bool(dropping)


def _some(tokens: Sequence[str]) -> str:
    more = len(tokens) - _SHOWN
    return ", ".join(tokens[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
