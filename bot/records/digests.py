"""Digests: of the content of a release, and of everything that decides the bytes of a build.

Only the standard library is imported, because workers import this module inside toolchains.
"""

import hashlib
import json

from bot.records.artifacts import Json, SourceFile, Variant

CONTENT_FILES = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
    }
)

ADAPTER_CONFIG = "adapter_config.json"  #: says what an adapter is, and of which base
_MERGING = 1  # raise it when an adapter is merged to other numbers


def digest_of(value: Json) -> str:
    """Return the sha256, in hex, of a JSON value in canonical form (sorted keys, no white space, UTF-8)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()  # a file's name may hold surrogates


def build_key(
    *,
    content_digest: str,
    variant: Variant,
    toolchain_digest: str,
    format_version: int,
    importance: str | None = None,
    calibration: str | None = None,
) -> str:
    """Return the digest that says whether there is anything to do: equal key, equal artifact.

    What a variant is *called* or said to be (name, summary, estimate, default) is not part of its recipe. Nor is the
    precision of one with a size, which is among its options: the precision follows from that and the release.
    ``importance`` is the digest of what decides its importance matrix, None for a variant that takes none, and
    ``calibration`` that of what decides the second moments that it is rounded for.
    """
    return digest_of(
        {
            "release": content_digest,
            "recipe": {
                "format": variant.format,
                "precision": variant.precision if variant.size_limit is None else None,
                "target": variant.target,
                "options": variant.options,
            },
            "toolchain": toolchain_digest,
            "format_version": format_version,
        }
        | ({} if importance is None else {"importance": importance})
        | ({} if calibration is None else {"calibration": calibration})
    )


def content_digest(files: tuple[SourceFile, ...]) -> str:
    """Return the digest of a release's content: the files that decide what is built from it, and nothing else."""
    return digest_of(sorted([f.path, f.digest] for f in files if is_content(f.path)))


def merged_digest(adapter: str, base: str) -> str:
    """Return the digest of the content of an adapter that is merged into its base, by the digests of both."""
    return digest_of({"adapter": adapter, "base": base, "merging": _MERGING})


def is_content(path: str) -> bool:
    """Say whether a file of a source repo decides what is built: weights, config and tokenizer at the top level."""
    if "/" in path:
        return False
    weights = path.endswith((".safetensors", ".safetensors.index.json"))
    return weights or path in CONTENT_FILES or path == ADAPTER_CONFIG
