"""Text in, text out: whether an artifact's tokenizer, template and stop tokens do what its source's do."""

from collections.abc import Collection

from bot.evidence import Generation
from bot.records import Json
from bot.workers.runtime import Runtime

_ENDING = 16  # tokens within which an answer has to end, where the original would end it at once


def tokenizer(runtime: Runtime, reference: Json, known: Collection[str]) -> tuple[bool, str]:
    """Compare ids, and what they are decoded to, with the source tokenizer's."""
    sets = {"": reference["tokenizer"]} | {k: v for k, v in reference["unusual"].items() if k not in known}
    for kind, expected in sets.items():
        if wrong := _read_differently(runtime, expected):
            of = f" with {kind}" if kind else ""
            return False, f"{len(wrong)} of {len(expected['texts'])} texts{of} are read differently: {wrong[0]}"
    count = sum(len(expected["texts"]) for expected in sets.values())
    return True, f"{count} texts give the source's ids, and their ids the source's texts"


def _read_differently(runtime: Runtime, expected: Json) -> list[str]:
    """Return, for each text that gets other ids or is decoded to another text, how."""
    wrong = []
    for text, ids, back in zip(expected["texts"], expected["ids"], expected["decoded"], strict=True):
        if (got := runtime.encode(text)) != ids:
            wrong.append(f"{text[:40]!r} gives {_cut(got)}, not {_cut(ids)}")
        elif (read := runtime.decode(ids)) != back:
            wrong.append(f"{_cut(ids)} is decoded to {_cut(repr(read))}, not {_cut(repr(back))}")
    return wrong


def known_differences(runtime: Runtime, reference: Json, known: Collection[str]) -> list[Json]:
    """Count what a runtime reads differently of the kinds of text that it is known to."""
    sets = {kind: texts for kind, texts in reference["unusual"].items() if kind in known}
    counted = {kind: len(_read_differently(runtime, expected)) for kind, expected in sets.items()}
    return [{"kind": k, "differing": n, "texts": len(sets[k]["texts"])} for k, n in counted.items() if n]


def chats(runtime: Runtime, chats: list[Json]) -> tuple[bool, str]:
    """Compare rendered conversations with what the source's template makes of them."""
    for chat, got in zip(chats, runtime.render(chats) if chats else [], strict=True):
        if got != chat["text"]:
            at = next((i for i, (a, b) in enumerate(zip(got, chat["text"], strict=False)) if a != b), None)
            at = min(len(got), len(chat["text"])) if at is None else at
            there, wanted = got[max(at - 10, 0) : at + 20], chat["text"][max(at - 10, 0) : at + 20]
            return False, f"{chat['name']}: {there!r} stands where the source's template writes {wanted!r}"
    if not chats:
        return True, "the source has no chat template"
    return True, f"{len(chats)} conversations are written as the source's template writes them"


def stop_tokens(runtime: Runtime, reference: Json) -> tuple[bool, str]:
    """Check that the runtime stops at all ids that end the original's answers, and that it does end one."""
    missing = sorted(set(reference["stop_ids"]) - runtime.stop_ids())
    if missing:
        return False, f"generating does not end at {', '.join(repr(runtime.decode([i])) for i in missing)}"
    names = f"ends at {len(reference['stop_ids'])} tokens"
    for ending in reference["endings"]:
        if len(runtime.generate(ending, _ENDING)) == _ENDING:
            return False, f"{names}, but went on for {_ENDING} where the original ends its answer"
    if not reference["endings"]:
        return True, f"{names}; the original itself ends none of the shipped answers"
    return True, f"{names}, and ended {len(reference['endings'])} answers where the original does"


def generation(runtime: Runtime, prompt: Json) -> Generation:
    """Let an artifact continue one of the reference's prompts."""
    most = prompt["max_new_tokens"]
    ids = runtime.generate(prompt["ids"], most)
    return Generation(
        prompt=prompt["text"],
        prompt_ids=tuple(prompt["ids"]),
        ids=tuple(ids),
        text=runtime.decode(ids),
        stopped=len(ids) < most,
    )


def said_something(generations: list[Generation]) -> tuple[bool, str]:
    """Check that there was an answer to every prompt."""
    silent = [g for g in generations if not g.ids]
    if silent:
        return False, f"nothing was generated for {silent[0].prompt[:40]!r}"
    return True, f"{sum(len(g.ids) for g in generations)} tokens from {len(generations)} prompts"


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
