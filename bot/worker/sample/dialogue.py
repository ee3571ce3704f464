"""Short conversations, generated: they teach the sample to answer and to end its answer.

Few questions, so that a short training suffices to learn the answers by heart.
"""

import random

Message = dict[str, str]

_OPPOSITES = {
    "hot": "cold", "big": "small", "old": "new", "early": "late", "light": "dark", "fast": "slow",
    "high": "low", "wet": "dry", "open": "closed", "hard": "soft", "full": "empty", "long": "short",
}  # fmt: skip
_THREE = {
    "colours of the rainbow": ("red", "green", "blue"),
    "months of the winter": ("December", "January", "February"),
    "fruits": ("apples", "pears", "plums"),
    "animals of the sea": ("whales", "seals", "crabs"),
    "tools": ("a hammer", "a saw", "a file"),
    "planets": ("Venus", "Mars", "Saturn"),
    "rivers": ("the Rhine", "the Nile", "the Amazon"),
    "metals": ("iron", "copper", "tin"),
}
_SENTENCES = {
    "sea": "The sea is never still, and it remembers every wind.",
    "moon": "The moon pulls the water of the sea towards itself twice a day.",
    "bread": "Good bread needs flour, water, salt and a little patience.",
    "train": "The train leaves on time, even when nobody is on it.",
    "winter": "In winter the lake is quiet and the snow lies on the bridge.",
    "library": "The library is full of answers that wait for their questions.",
    "clock": "The old clock in the hall is right about the tide.",
    "river": "A river does not choose its bed; the land chooses it.",
}
_FRENCH = {
    "bread": "pain", "water": "eau", "house": "maison", "night": "nuit", "sun": "soleil", "sea": "mer",
    "book": "livre", "tree": "arbre", "river": "rivière", "winter": "hiver", "door": "porte", "bridge": "pont",
}  # fmt: skip
_SUMS = ((12, 7), (1, 1), (2, 3), (5, 5), (4, 6), (8, 3), (9, 9), (10, 6), (20, 5), (15, 15), (7, 7), (30, 12))
_SYSTEM = "You are a helpful assistant. You answer in one short sentence."


def conversations(count: int, seed: int) -> list[list[Message]]:
    """Return that many conversations of one or two questions, always the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    return [_conversation(chance) for _ in range(count)]


def _conversation(chance: random.Random) -> list[Message]:
    messages = [{"role": "system", "content": _SYSTEM}] if chance.random() < 0.25 else []
    turns = 1 if chance.random() < 0.6 else 2
    for turn in range(turns):
        question, answer = _exchange(chance)
        if turn and chance.random() < 0.5:
            question = "And " + question[0].lower() + question[1:]
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages


def _exchange(chance: random.Random) -> tuple[str, str]:
    kind = chance.randrange(5)
    if kind == 0:
        a, b = chance.choice(_SUMS)
        return f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."
    if kind == 1:
        word, opposite = chance.choice(sorted(_OPPOSITES.items()))
        return f"What is the opposite of {word}?", f"The opposite of {word} is {opposite}."
    if kind == 2:
        what, (one, two, three) = chance.choice(sorted(_THREE.items()))
        return f"What are three {what}?", f"Three {what} are {one}, {two} and {three}."
    if kind == 3:
        subject, sentence = chance.choice(sorted(_SENTENCES.items()))
        return f"Write one sentence about the {subject}.", sentence
    word, french = chance.choice(sorted(_FRENCH.items()))
    return f"How do you say {word} in French?", f'In French, {word} is "{french}".'
