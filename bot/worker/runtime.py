"""An artifact loaded in its own runtime, as verifying needs it. Every format's worker brings one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from bot.records.artifacts import Json

Array = Any  # numpy is not installed where mypy runs
Logits = Callable[[Sequence[int], Sequence[int]], Array]


class Runtime(Protocol):
    """An artifact loaded in its own runtime."""

    name: str  #: package and version: "llama-cpp-python 0.3.36"

    #: Other settings of the runtime that people use, by what a card calls them: ``logits`` under each of them. They are
    #: measured on the short side of a LongRoPE switch; no gate applies.
    other_settings: Mapping[str, Logits]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: special tokens in it recognised, none added."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens in full."""
        ...

    def render(self, chats: Sequence[Json]) -> list[str]:
        """Return conversations as the chat template inside the artifact writes them, rendered as the runtime does.

        Each has ``messages``, ``tools`` and ``add_generation_prompt``. They are rendered in a child with limits: see
        bot/sandbox/rendering.py. Raises ValueError for one that the template refuses, and LimitError.
        """
        ...

    def stop_ids(self) -> set[int]:
        """Return the ids at which the runtime ends generating by itself."""
        ...

    def logits(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        """Run the ids from an empty context; return float32 logits of some of them, by ascending positions.

        Their shape is (len(positions), vocabulary or more); they hold until the next call. All rows of a deep window
        would take 3.3 GB with a vocabulary of 200,064, so a runtime computes, or at least keeps, no others.
        """
        ...

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue greedily with the runtime's usual loop; the stop token that ended it is left out."""
        ...


@runtime_checkable
class ReadsTogether(Protocol):
    """A runtime that reads several texts faster together than one after the other."""

    def expect(self, texts: Sequence[Sequence[int]]) -> None:
        """Take the texts that ``logits`` is asked for next, of which it may compute what takes long in one go."""
        ...


def expect(runtime: Runtime, texts: Sequence[Sequence[int]]) -> None:
    """Say what a runtime is asked for next, if that is of use to it."""
    if isinstance(runtime, ReadsTogether):
        runtime.expect(texts)


@runtime_checkable
class Remarking(Protocol):
    """A runtime that did some of what it was asked otherwise than people run it."""

    remarks: Sequence[str]  #: what a reader of the evidence is told of it, in half a sentence each


def remarks(runtime: Runtime) -> Sequence[str]:
    """Return what is to be said of what a runtime was asked so far."""
    return runtime.remarks if isinstance(runtime, Remarking) else ()
