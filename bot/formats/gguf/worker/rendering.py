"""The engine of a GGUF file's template: llama-cpp-python's Jinja, in a child with limits (see worker/renderer.py).

Given are ``template``, ``for_tools`` (one of its own, or None), ``bos`` and ``eos``, as the file's metadata has them.
"""

from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from bot.records.artifacts import Json
from bot.worker.renderer import Render, main


def engine(given: Json) -> Render:
    """Return what renders conversations as llama-cpp-python does."""

    def render(chat: Json, template: str | None) -> str:
        of_file = (given["for_tools"] if chat["tools"] else None) or given["template"]
        write = Jinja2ChatFormatter(
            template or of_file,
            given["eos"],
            given["bos"],
            add_generation_prompt=chat["add_generation_prompt"],
        )
        return str(write(messages=chat["messages"], tools=chat["tools"]).prompt)

    return render


if __name__ == "__main__":
    main(engine)
