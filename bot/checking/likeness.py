"""Whether a file says the same as its original: of prompts, stop tokens, vocabulary, rotary angles and licence."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime

from bot.checking.findings import Finding, contradicted, left_open, note, proven, some
from bot.checking.original import Original
from bot.formats.inside import Inside
from bot.source.chat_template import ChatFormat, TemplateRenderError, renderings

_PADDING = ("[PAD", "<pad", "<dummy", "[UNUSED")  # how tools call rows that no token has
_SAME = 1e-6  # relative: files hold angles in 32 bits
_NOW = datetime(2026, 1, 1, tzinfo=UTC)  # what templates are told, both the same


def compare(inside: Inside, original: Original) -> Iterator[Finding]:
    """Yield what a file has in common with its original, and what not."""
    yield _prompt(inside, original)
    yield from _stops(inside, original)
    yield _vocabulary(inside, original)
    yield _angles(inside, original)
    yield from _license(inside, original)


def _prompt(inside: Inside, original: Original) -> Finding:
    about, chat = "prompt", original.chat
    if chat is None or inside.template is None:
        if chat is None and inside.template is None:
            return proven(about, "neither the file nor the original has a chat template")
        who = "the original" if chat is None else "the file"
        return contradicted(about, f"{who} has no chat template, and the other one does")
    own = ChatFormat(template=inside.template, special_tokens=inside.special_tokens)
    if own.template == chat.template and own.special_tokens.items() >= _used(chat).items():
        return proven(about, "the chat template is the original's")
    try:
        theirs, ours = renderings(chat, _NOW), renderings(own, _NOW)
    except TemplateRenderError as error:
        return left_open(about, f"a chat template could not be rendered: {error}")
    differing = sum(a != b for a, b in zip(theirs, ours, strict=True))
    if differing:
        return contradicted(about, f"{differing} of {len(theirs)} conversations become another prompt")
    other = "another chat template" if own.template != chat.template else "the chat template, with other special tokens"
    alike = sum(a is not None for a in theirs)  # what both refuse says nothing
    return left_open(about, f"{other}: it makes the same prompts of {alike} conversations, and may not of others")


def _used(chat: ChatFormat) -> dict[str, str]:
    return {name: token for name, token in chat.special_tokens.items() if name in chat.template}


def _stops(inside: Inside, original: Original) -> Iterator[Finding]:
    about, wanted = "stop tokens", original.stops
    if not wanted:
        yield left_open(about, "the original names none")
        return
    if missing := sorted(wanted - inside.stops):
        yield contradicted(about, f"it does not stop at {some(_said(i, original) for i in missing)}")
    else:
        yield proven(about, f"it stops at {some(_said(i, original) for i in sorted(wanted))}, as the original does")
    if more := sorted(inside.named - wanted):
        yield note(about, f"it stops at {some(_said(i, original) for i in more)} too, where the original goes on")


def _said(token: int, original: Original) -> str:
    text = original.tokens.get(token)
    return str(token) if text is None else f"{text} ({token})"


def _vocabulary(inside: Inside, original: Original) -> Finding:
    about, there, wanted = "vocabulary", inside.tokens, original.tokens
    if there is None or not wanted:
        return left_open(about, "the file lists no tokens" if there is None else "the original's is not in JSON")
    wrong = [i for i, text in sorted(wanted.items()) if i < 0 or i >= len(there) or there[i] != text]
    if wrong:
        first = wrong[0]
        has = ascii(there[first])[:40] if 0 <= first < len(there) else "nothing"
        detail = f"{len(wrong)} of {len(wanted)} tokens differ: {first} is {ascii(wanted[first])[:40]}, here {has}"
        return contradicted(about, detail)
    if made := [t for i, t in enumerate(there) if i not in wanted and not t.startswith(_PADDING)]:
        return contradicted(about, f"it has {len(made)} tokens that the original lacks, as {ascii(made[0])[:40]}")
    return proven(about, f"its {len(wanted)} tokens are the original's")


def _angles(inside: Inside, original: Original) -> Finding:
    about, wanted = "rotary angles", original.factors
    elsewhere = wanted.keys() - inside.factors.keys() if inside.parts > 1 else set()
    for side in ("short", "long"):
        if side not in elsewhere and not _close(wanted.get(side, ()), inside.factors.get(side, ())):
            which = "has none" if side not in inside.factors else "has others"
            if side not in wanted:
                return contradicted(about, f"it has LongRoPE's {side} factors, and the original has none")
            return contradicted(about, f"it {which} of the original's {side} factors of LongRoPE")
    if original.base is not None and inside.base is not None and not _close((original.base,), (inside.base,)):
        return contradicted(about, f"their base is {inside.base:g}, and the original's {original.base:g}")
    if elsewhere:
        return left_open(about, "LongRoPE's factors may be in another part of the model")
    if original.base is not None and inside.base is None:
        return left_open(about, f"the file does not say their base, which is {original.base:g} in the original")
    if not wanted and original.base is None:
        return left_open(about, "neither LongRoPE's factors nor a base to compare")
    what = "LongRoPE's factors" if wanted else f"the base, {original.base:g},"
    return proven(about, f"{what} are the original's" if wanted else f"{what} is the original's")


def _close(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return len(one) == len(other) and all(math.isclose(a, b, rel_tol=_SAME) for a, b in zip(one, other, strict=True))


def _license(inside: Inside, original: Original) -> Iterator[Finding]:
    wanted = original.release.card.get("license")
    if not isinstance(wanted, str) or inside.license is None:
        return
    if inside.license.lower() == wanted.lower():
        yield proven("licence", f"{wanted}, as of the original")
    else:
        yield contradicted("licence", f"the file says {inside.license!a}, and the original {wanted!a}")
