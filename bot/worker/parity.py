"""Text in, text out: whether an artifact's tokenizer, template and stop tokens do what its source's do."""

from collections.abc import Collection

import numpy as np

from bot.records.artifacts import Json
from bot.records.evidence import Generation
from bot.texts import WITH_TOOLS
from bot.worker.runtime import Runtime

#: Nats by which a token must lead for a runtime to be held to it. It is far more than the same weights differ by when
#: they read a prompt at once and token by token: in bfloat16, on a model whose activations are large, some tenths.
_CLEARLY = 1.0


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
    """Count what a runtime reads or writes differently of the kinds of text that it is known to."""
    sets = {kind: texts for kind, texts in reference["unusual"].items() if kind in known}
    found = [(kind, len(_read_differently(runtime, texts)), len(texts["texts"])) for kind, texts in sets.items()]
    if WITH_TOOLS in known and (chats := [c for c in reference["chats"] if c["tools"]]):
        found.append((WITH_TOOLS, len(_written_differently(runtime, chats)), len(chats)))
    return [{"kind": kind, "differing": n, "texts": of} for kind, n, of in found if n]


def chats(runtime: Runtime, chats: list[Json], known: Collection[str] = ()) -> tuple[bool, str]:
    """Compare rendered conversations with what the source's template makes of them."""
    held = [c for c in chats if not (c["tools"] and WITH_TOOLS in known)]
    if wrong := _written_differently(runtime, held):
        return False, wrong[0]
    if not chats:
        return True, "the source has no chat template"
    return True, f"{len(held)} conversations are written as the source's template writes them"


def _written_differently(runtime: Runtime, chats: list[Json]) -> list[str]:
    """Return, for each conversation that is written otherwise, what stands at the first place and what should."""
    wrong = []
    for chat, got in zip(chats, runtime.render(chats) if chats else [], strict=True):
        if got != chat["text"]:
            at = next((i for i, (a, b) in enumerate(zip(got, chat["text"], strict=False)) if a != b), None)
            at = min(len(got), len(chat["text"])) if at is None else at
            there, wanted = got[max(at - 10, 0) : at + 20], chat["text"][max(at - 10, 0) : at + 20]
            wrong.append(f"{chat['name']}: {there!r} where the source's template writes {wanted!r}")
    return wrong


def stop_tokens(runtime: Runtime, reference: Json) -> tuple[bool, str]:
    """Check that the runtime stops at all ids that end the original's answers, and does so when it comes to one.

    It has to come to one wherever an end is clearly what it finds likeliest itself. Where that is another token than
    the original's, rounding has changed the weights, not what the runtime does at an end; what rounding may cost is for
    the distances to say.
    """
    missing = sorted(set(reference["stop_ids"]) - runtime.stop_ids())
    if missing:
        return False, f"generating does not end at {', '.join(repr(runtime.decode([i])) for i in missing)}"
    names = f"ends at {len(reference['stop_ids'])} tokens"
    if not reference["endings"]:
        return True, f"{names}; the original itself ends none of the shipped answers"
    ranks = []
    for ending in reference["endings"]:
        new = runtime.generate(ending, 1)
        if not new:
            continue
        if new[0] in reference["stop_ids"]:
            return False, f"{names}, but wrote {runtime.decode(new)!r} and did not end"
        lead, rank = _end_after(runtime, ending, reference)
        if lead > _CLEARLY:
            return False, f"{names}, but went on where an end is the likeliest token by {lead:.1f} nats"
        ranks.append(rank)
    of = len(reference["endings"])
    ended = f"{names}, and ended {of - len(ranks)} of {of} answers where the original does"
    return (
        True,
        f"{ended}; in the others an end ranks {max(ranks)} at worst" if ranks else ended,
    )


def _end_after(runtime: Runtime, ids: list[int], reference: Json) -> tuple[float, int]:
    """Return by how many nats the likeliest end leads all other tokens after some ids (below 0: trails), and its rank.

    An artifact's own logits are asked, whatever its runtime generates there.
    """
    row = runtime.logits(ids, [len(ids) - 1])[-1].copy()
    end = float(row[reference["stop_ids"]].max())
    row[reference["stop_ids"]] = -np.inf
    return end - float(row.max()), int((row > end).sum()) + 1


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


def said_something(runtime: Runtime, generations: list[Generation], reference: Json) -> tuple[bool, str]:
    """Check that there was an answer to every prompt that the original answers, and that none goes on past an end.

    An artifact may be silent where it finds an end the likeliest token or nearly so, but not at every prompt.
    """
    passed = [i for g in generations for i in g.ids if i in reference["stop_ids"]]
    if passed:
        return False, f"wrote {runtime.decode(passed[:1])!r} in an answer and went on"
    pairs = list(zip(generations, reference["prompts"], strict=True))
    silent = [(g, prompt["ids"]) for g, prompt in pairs if not g.ids and not prompt["silent"]]
    answered = sum(not prompt["silent"] for _, prompt in pairs)
    for g, ids in silent:
        if len(silent) == answered or _end_after(runtime, ids, reference)[0] < -_CLEARLY:
            return False, f"nothing was generated for {g.prompt[:40]!r}"
    said = f"{sum(len(g.ids) for g in generations)} tokens from {len(generations)} prompts"
    if answered < len(pairs):
        return True, f"{said}; the original itself says nothing to {len(pairs) - answered}"
    return True, said


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
