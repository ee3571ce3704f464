"""The largest size of each kind of file of a source, in bytes: checked before anything of it is downloaded.

Each bound is many times the size of the largest Phi's. The content of files has bounds of its own, in
bot/source/bounds.py.
"""

from collections.abc import Iterable

from bot.errors import OversizedFileError
from bot.records.digests import ADAPTER_CONFIG
from bot.source.names import NOTICES

WEIGHTS = 500_000_000_000  #: the Hub takes no larger file
INDEX = 25_000_000
NOTICE = 10_000_000
ADAPTER = 1_000_000  #: adapter_config.json, which may name each matrix of a model
LARGEST = {
    "config.json": 1_000_000,  # Phi's largest is below 10 kB
    "generation_config.json": 1_000_000,
    "tokenizer.json": 50_000_000,  # 16 MB
    "tokenizer.model": 50_000_000,
    "tokenizer_config.json": 20_000_000,
    "special_tokens_map.json": 1_000_000,
    "added_tokens.json": 20_000_000,
    "vocab.json": 50_000_000,
    "merges.txt": 50_000_000,
    "chat_template.jinja": 2_000_000,
    "chat_template.json": 20_000_000,
}


def largest(path: str) -> int:
    """Return the most bytes that a file of a source, by its name, may have."""
    if path.endswith(".safetensors"):
        return WEIGHTS
    if path.endswith(".safetensors.index.json"):
        return INDEX
    if path == ADAPTER_CONFIG:
        return ADAPTER
    return NOTICE if path in NOTICES else LARGEST[path]


def check_sizes(sizes: Iterable[tuple[str, int]], *, where: str) -> None:
    """Check wanted files, by names and sizes in bytes. Raises OversizedFileError for the first that is too large."""
    for path, size in sorted(sizes):
        if not 0 <= size <= (most := largest(path)):
            raise OversizedFileError(
                f"{path} of {where} has {size} bytes, and no file of its kind may have more than {most}",
                hint="Nothing of the model was read. Is the file what its name says? If not, tell its owner.",
            )
