"""The special tokens of each tokenizer, with their ids. Imports no toolchain, so that tests can read it anywhere."""

from dataclasses import dataclass

PIECES = 2000  #: in tokenizer.model of the SentencePiece tokenizers; the special tokens follow, as Phi-3's follow 32000
SPECIAL = (
    "<|endoftext|>",
    "<|assistant|>",
    "<|placeholder1|>",
    "<|placeholder2|>",
    "<|placeholder3|>",
    "<|placeholder4|>",
    "<|system|>",
    "<|end|>",
    "<|placeholder5|>",
    "<|placeholder6|>",
    "<|user|>",
)
ID = {token: PIECES + i for i, token in enumerate(SPECIAL)}  #: Phi-3's and Phi-3.5's
WITH_IMAGES = ID | {"<|image|>": PIECES + len(SPECIAL)}  #: Phi-3-vision's and Phi-3.5-vision's


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A token that is added to a byte-level vocabulary, and what its tokenizer does with it in a text."""

    content: str
    id: int
    special: bool = True
    normalized: bool = False
    lstrip: bool = False  #: swallows the white space before it
    rstrip: bool = False  #: ... and after it


def _phi_2() -> tuple[Mark, ...]:
    """GPT-2's end of text, then runs of 31 to 2 spaces and of 9 to 2 tabs, as its code models have them."""
    runs = [*(" " * n for n in range(31, 1, -1)), *("\t" * n for n in range(9, 1, -1))]
    plain = [Mark(content=run, id=50257 + i, special=False, normalized=True) for i, run in enumerate(runs)]
    return Mark(content="<|endoftext|>", id=50256), *plain


def _phi_4(more: dict[int, str]) -> tuple[Mark, ...]:
    """cl100k's own, the marks of a turn, ``more``, and dummies to fill up to 100352 ids."""
    named = {
        100257: "<|endoftext|>",
        100258: "<|fim_prefix|>",
        100259: "<|fim_middle|>",
        100260: "<|fim_suffix|>",
        100264: "<|im_start|>",
        100265: "<|im_end|>",
        100266: "<|im_sep|>",
        100276: "<|endofprompt|>",
    }
    free = [i for i in range(100256, 100352) if i not in named | more]
    contents = named | more | {i: f"<|dummy_{n}|>" for n, i in enumerate(free)}
    return tuple(
        Mark(content=contents[i], id=i, lstrip=True, rstrip=True, special=i not in more) for i in sorted(contents)
    )


def _phi_4_mini(more: dict[int, str]) -> tuple[Mark, ...]:
    """o200k's own, and the marks of a turn, behind which white space is swallowed."""
    turns = ("<|assistant|>", "<|end|>", "<|user|>", "<|system|>")
    tools = ("<|tool|>", "<|/tool|>", "<|tool_call|>", "<|/tool_call|>", "<|tool_response|>", "<|tag|>")
    own = {199999: "<|endoftext|>", 200018: "<|endofprompt|>"} | more
    marks = [Mark(content=content, id=i) for i, content in own.items()]
    marks += [
        Mark(content=content, id=200019 + n, rstrip=True, special=content not in tools)
        for n, content in enumerate(turns + tools)
    ]
    return tuple(sorted(marks, key=lambda mark: mark.id))


PHI_2 = _phi_2()
PHI_4 = _phi_4({})
PHI_4_REASONING = _phi_4({100350: "<think>", 100351: "</think>"})
PHI_4_MINI = _phi_4_mini({})
PHI_4_MULTIMODAL = _phi_4_mini({200010: "<|endoftext10|>", 200011: "<|endoftext11|>"})
