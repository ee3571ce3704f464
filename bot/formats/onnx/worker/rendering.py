"""The engine of an ONNX folder's template: onnxruntime-genai's own, in a child with limits (see worker/renderer.py).

Given is ``folder``, that of the artifact. Of it the tokenizer alone is loaded.
"""

import json

from bot.formats.onnx.worker.runtime import send_nothing
from bot.records.artifacts import Json
from bot.worker.renderer import Render, main


def engine(given: Json) -> Render:
    """Return what renders conversations as onnxruntime-genai does."""
    send_nothing()
    import onnxruntime_genai as og

    og.disable_telemetry_events()
    tokenizer = og.Tokenizer(og.Config(given["folder"]))

    def render(chat: Json, template: str | None) -> str:
        more = {} if chat["tools"] is None else {"tools": json.dumps(chat["tools"])}
        if template is not None:
            more["template_str"] = template
        rendered = tokenizer.apply_chat_template(
            json.dumps(chat["messages"]), add_generation_prompt=chat["add_generation_prompt"], **more
        )
        return str(rendered)

    return render


if __name__ == "__main__":
    main(engine)
