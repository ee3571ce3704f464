"""The bounds that one request is held to, so that no caller can fill the memory or hang the server."""

from dataclasses import dataclass

MB = 10**6
GB = 10**9


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """Sizes are in bytes. The defaults follow the real Hub where it says its own."""

    page: int = 1000  # entries of a list in one answer
    latency: float = 0.0  # seconds that every answer takes longer, as if this Hub were far away
    lfs_from: int = 10 * MB  # files of this size and above are LFS files whatever they hold
    part: int = 64 * MB  # of an upload in parts; larger files are sent so
    file: int = 500 * GB
    json_body: int = 32 * MB
    commit_body: int = 1 * GB
    commit_line: int = 32 * MB  # one regular file in base64
    commit_operations: int = 25_000
