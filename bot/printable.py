"""Text that may come from strangers (names of models and files, messages of servers), made fit to be printed."""


def printable(text: str) -> str:
    """Return a text as one line without control characters: none of it can steer a terminal or fake a second line."""
    return "".join(c if c.isprintable() else "�" for c in " ".join(text.splitlines()))
