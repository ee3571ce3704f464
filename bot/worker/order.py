"""In which order several files are written, so that what they read is read once."""

from collections.abc import Iterator, Sequence


def in_step(files: Sequence[Sequence[tuple[str, ...]]]) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    """Yield what is read next, with the files (by number) whose next stretch needs it, until all stretches are done.

    ``files`` are what each one's stretches need, in its order. The file that has the most left says what is next: one
    that a killed process left behind the others comes up to them. The graphs of all variants have their weights in one
    order, so each is read once; where two orders differ, some are read again.
    """
    at = [0] * len(files)
    while left := [i for i, file in enumerate(files) if at[i] < len(file)]:
        behind = max(left, key=lambda i: len(files[i]) - at[i])
        needed = files[behind][at[behind]]
        now = [i for i in left if files[i][at[i]] == needed]
        for i in now:
            at[i] += 1
        yield needed, now
