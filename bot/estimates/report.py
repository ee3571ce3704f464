"""docs/estimates.md."""


def write() -> None:
    """Write it."""
