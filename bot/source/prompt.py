"""The prompt format on a card: a prompt as the model's own template writes it, or what is wrong with that."""

from dataclasses import dataclass
from datetime import datetime

from bot.records.artifacts import Record
from bot.source.chat_template import ChatFormat, TemplateRenderError, render_prompt

_SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
_USER = {"role": "user", "content": "What is the capital of France?"}


@dataclass(frozen=True, kw_only=True)
class Prompt(Record):
    """An example: its ``text``, or the ``problem`` with it, or neither if the model has no template. Untrusted.

    ``takes_system`` says whether the template takes a system message.
    """

    text: str | None = None
    problem: str | None = None
    takes_system: bool = True

    @property
    def chats(self) -> bool:
        """Say whether clients can be given messages."""
        return self.text is not None


def prompt_of(chat: ChatFormat | None, created: str) -> Prompt:
    """Render the example with a model's template. ``created`` (ISO 8601) is the day that the template is told."""
    if chat is None:
        return Prompt()
    try:
        now = datetime.fromisoformat(created)
    except ValueError:
        return Prompt(problem=f"{created} is not a date")
    try:
        text = _rendered(chat, [_SYSTEM, _USER], now)
        if _SYSTEM["content"] in text:
            return Prompt(text=text)
    except TemplateRenderError:
        pass  # many templates refuse system messages
    try:
        return Prompt(text=_rendered(chat, [_USER], now), takes_system=False)
    except TemplateRenderError as error:
        return Prompt(problem=str(error))


def _rendered(chat: ChatFormat, messages: list[dict[str, str]], now: datetime) -> str:
    text = render_prompt(chat, messages, now=now)
    return text.encode("utf-8", "ignore").decode()  # halves of a surrogate pair are not text, nor valid JSON
