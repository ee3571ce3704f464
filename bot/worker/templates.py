"""The engine of the reference: the checkpoint's own tokenizer in transformers, in a child with limits (renderer.py).

It takes ``source``, the folder of the checkpoint.
"""

from pathlib import Path

from bot.records.artifacts import Json
from bot.worker.renderer import Render, main
from bot.worker.tokens import read_tokenizer


def engine(given: Json) -> Render:
    """Return what renders conversations as transformers does."""
    tokenizer = read_tokenizer(Path(given["source"]))

    def render(chat: Json, template: str | None) -> str:
        text: str = tokenizer.apply_chat_template(
            chat["messages"],
            tools=chat["tools"],
            chat_template=template,
            tokenize=False,
            add_generation_prompt=chat["add_generation_prompt"],
        )
        return text

    return render


if __name__ == "__main__":
    main(engine)
