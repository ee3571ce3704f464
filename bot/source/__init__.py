"""Source models: what a stranger's files must be before anything reads them. Imports no toolchain and no Hub."""

from bot.source.adapters import adapter_files
from bot.source.changes import vocabulary_of
from bot.source.config import check_config
from bot.source.folder import bytes_digest, check, file_digest, local_release, rewritten, stage
from bot.source.listing import ModelFiles, check_listing, list_files
from bot.source.meaning import meant_class
from bot.source.merged import adapted, notices_of
from bot.source.names import NOTICES, check_name, is_wanted, safe_name
from bot.source.safetensors_files import parameters, read_header
from bot.source.sizes import check_sizes
from bot.source.tensors import is_quantized

__all__ = [
    "NOTICES",
    "ModelFiles",
    "adapted",
    "adapter_files",
    "bytes_digest",
    "check",
    "check_config",
    "check_listing",
    "check_name",
    "check_sizes",
    "file_digest",
    "is_quantized",
    "is_wanted",
    "list_files",
    "local_release",
    "meant_class",
    "notices_of",
    "parameters",
    "read_header",
    "rewritten",
    "safe_name",
    "stage",
    "vocabulary_of",
]
