"""The engine of an OpenVINO folder's template: openvino-genai's own, in a child with limits (see worker/renderer.py).

Given is ``folder``, that of the artifact. Of it the tokenizer alone is loaded.
"""

from bot.formats.openvino.worker.runtime import send_nothing
from bot.records.artifacts import Json
from bot.worker.renderer import Render, main


def engine(given: Json) -> Render:
    """Return what renders conversations as openvino-genai does."""
    send_nothing()
    import openvino_genai

    tokenizer = openvino_genai.Tokenizer(given["folder"])

    def render(chat: Json, template: str | None) -> str:
        return str(
            tokenizer.apply_chat_template(
                chat["messages"], chat["add_generation_prompt"], chat_template=template or "", tools=chat["tools"]
            )
        )

    return render


if __name__ == "__main__":
    main(engine)
