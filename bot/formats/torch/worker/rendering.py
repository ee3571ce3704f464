"""The engine of a PyTorch folder's template: transformers' tokenizer, in a child with limits (see worker/renderer.py).

Given is ``folder``, that of the artifact. Of it the tokenizer alone is loaded.
"""

from pathlib import Path

from bot.records.artifacts import Json
from bot.worker.checkpoint import forbid_remote_code
from bot.worker.renderer import Render, main


def engine(given: Json) -> Render:
    """Return what renders conversations as transformers does."""
    forbid_remote_code()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(Path(given["folder"]), local_files_only=True, trust_remote_code=False)

    def render(chat: Json, template: str | None) -> str:
        more = {} if template is None else {"chat_template": template}
        return str(
            tokenizer.apply_chat_template(
                chat["messages"],
                tools=chat["tools"],
                add_generation_prompt=chat["add_generation_prompt"],
                tokenize=False,
                **more,
            )
        )

    return render


if __name__ == "__main__":
    main(engine)
