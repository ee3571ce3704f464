"""The engine of a PyTorch folder's template: transformers' tokenizer, in a child with limits (see worker/renderer.py).

Given is ``folder``, that of the artifact. Of it the tokenizer alone is loaded.
"""

from pathlib import Path

from bot.records.artifacts import Json
from bot.worker.checkpoint import forbid_remote_code
from bot.worker.renderer import Render, main, of_tokenizer


def engine(given: Json) -> Render:
    """Return what renders conversations as transformers does."""
    forbid_remote_code()
    from transformers import AutoTokenizer

    folder = Path(given["folder"])
    return of_tokenizer(AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False))


if __name__ == "__main__":
    main(engine)
