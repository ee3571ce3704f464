"""The engine of an MLX folder's template: mlx-lm's tokenizer, in a child with limits (see worker/renderer.py).

Given is ``folder``, that of the artifact. Of it the tokenizer alone is loaded.
"""

from pathlib import Path

from bot.records.artifacts import Json
from bot.worker.checkpoint import forbid_remote_code
from bot.worker.renderer import Render, main, of_tokenizer


def engine(given: Json) -> Render:
    """Return what renders conversations as mlx-lm does before it generates."""
    forbid_remote_code()
    from mlx_lm.utils import load_tokenizer

    return of_tokenizer(load_tokenizer(Path(given["folder"])))


if __name__ == "__main__":
    main(engine)
