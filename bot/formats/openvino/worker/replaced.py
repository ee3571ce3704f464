"""Change what a library does for the length of a block."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def patched_attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let ``owner.name`` be ``value``, and afterwards what it was. In the place of a static function it is one too."""
    before = owner.__dict__[name]
    setattr(owner, name, staticmethod(value) if isinstance(before, staticmethod) else value)
    try:
        yield
    finally:
        setattr(owner, name, before)
