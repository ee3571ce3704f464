"""Every error that ends a command: a class, an exit code, and what to do about it.

Exit codes are part of the public interface (docs/exit-codes.md lists them, and a test holds the two together).
0 is success, 1 a bug of ours, 2 wrong usage of the command line, 130 an interruption.
"""

from typing import ClassVar

from bot.printable import printable


class PhiBotError(Exception):
    """An error a person can act on: printed as one line, with what to do on the next."""

    exit_code: ClassVar[int]

    def __init__(self, message: str, *, hint: str) -> None:
        self.message = printable(message)  # it may quote what a stranger wrote
        self.hint = printable(hint)
        super().__init__(self.message)


class IncompleteError(PhiBotError):
    """Some variants were not built, verified or published; the others were."""

    exit_code = 3


# ---- what the person asked for -------------------------------------------------------------------------------


class ConfigError(PhiBotError):
    """phi-bot.toml has an unknown key or a wrong value."""

    exit_code = 10


class UnknownVariantError(PhiBotError):
    """A variant that the catalogue does not have."""

    exit_code = 11


class UnknownRevisionError(PhiBotError):
    """The repo exists, the revision does not."""

    exit_code = 12


class UnknownModelError(PhiBotError):
    """Neither a folder nor a repo on the Hub that this token can see."""

    exit_code = 13


class RecordError(PhiBotError):
    """A JSON record that does not match its schema."""

    exit_code = 14


# ---- what the source model is --------------------------------------------------------------------------------


class SourceError(PhiBotError):
    """Something about the model itself, whatever reads it: no variant in any format can do better."""


class MissingConfigError(SourceError):
    """No config.json, or one that is not a JSON object."""

    exit_code = 20


class UnsupportedArchitectureError(SourceError):
    """An architecture that no chosen toolchain supports."""

    exit_code = 21


class DamagedWeightsError(SourceError):
    """A truncated, missing or malformed safetensors shard."""

    exit_code = 22


class PicklesOnlyError(SourceError):
    """Weights only as pickles, which are never loaded."""

    exit_code = 23


class UnsafeFileNameError(SourceError):
    """A file name that leads out of its folder."""

    exit_code = 24


class RemoteCodeError(SourceError):
    """A model that cannot be read without running code from its repo."""

    exit_code = 25


class DamagedTokenizerError(SourceError):
    """A tokenizer file that is missing, malformed or past a bound, or a token with two ids or without a row."""

    exit_code = 26


class ChangedSourceError(SourceError):
    """A local model whose files changed between planning and building."""

    exit_code = 27


class ConfigValueError(SourceError):
    """An impossible value in a configuration file of the model: the message names file, key and value."""

    exit_code = 28


class NotFiniteError(SourceError):
    """Weights that hold NaN or infinity, or whose results do."""

    exit_code = 29


# ---- the Hub -------------------------------------------------------------------------------------------------


class TokenError(PhiBotError):
    """A missing or wrong token, or one without the right that is needed."""

    exit_code = 30


class HubUnreachableError(PhiBotError):
    """The Hub does not answer."""

    exit_code = 31


class HubRefusedError(PhiBotError):
    """The Hub answered, and refused."""

    exit_code = 32


class ForeignRepoError(PhiBotError):
    """The target repo exists and was not made by phi-bot: it is never overwritten."""

    exit_code = 33


class ConflictError(PhiBotError):
    """Someone else published in the same repo at the same moment."""

    exit_code = 34


class AlteredDownloadError(PhiBotError):
    """A downloaded file is not the one that the Hub announced."""

    exit_code = 35


class LocalHubError(PhiBotError):
    """The embedded Hub cannot use the folder or the address that it was given."""

    exit_code = 36


class GithubError(PhiBotError):
    """GitHub does not answer, or refuses an issue, a comment or a look at a pull request."""

    exit_code = 37


class RemoteJobError(PhiBotError):
    """A job on Hugging Face Jobs ended without publishing its files."""

    exit_code = 38


class PromotionError(PhiBotError):
    """Another machine left something to be published that this bot would not publish."""

    exit_code = 39


# ---- the machine ---------------------------------------------------------------------------------------------


class DiskTooSmallError(PhiBotError):
    """Less free disk than the estimate."""

    exit_code = 40


class NoCompilerError(PhiBotError):
    """A toolchain must be compiled, and there is no C++ compiler."""

    exit_code = 41


class ToolchainError(PhiBotError):
    """A toolchain could not be installed, or does not exist for this system."""

    exit_code = 42


class BuildError(PhiBotError):
    """A toolchain failed to convert the model."""

    exit_code = 43


class VerifyError(PhiBotError):
    """An artifact did not load, or its evidence is outside the gates."""

    exit_code = 44


class DiskFullError(PhiBotError):
    """The disk filled up while writing."""

    exit_code = 45


class NotReadyError(PhiBotError):
    """Something that the bot needs is missing on this machine, or a call to a live service fails (`phi-bot doctor`)."""

    exit_code = 46


class NoRunnerError(PhiBotError):
    """No runner has what a job needs."""

    exit_code = 47


class ApprovalError(PhiBotError):
    """Nobody with the right to do so asked for this on the pull request, or not at this commit."""

    exit_code = 48


# ---- the model again: 20 to 29 are taken ---------------------------------------------------------------------


class AdapterError(SourceError):
    """An adapter (LoRA or the like) that cannot be merged into its base."""

    exit_code = 50


class OtherWeightsError(SourceError):
    """Weights that are not those of the model's class: under other names, of another type, too many or too few."""

    exit_code = 51


class ChatTemplateError(SourceError):
    """A chat template that cannot be rendered."""

    exit_code = 56


class FormatRefusedError(BuildError):
    """The toolchain of one format does not take the model; other formats may."""

    exit_code = 57


class UnreadableModelError(SourceError):
    """A model that transformers cannot read, so that nothing can be compared with the original."""

    exit_code = 58


class MisfitError(SourceError):
    """A config.json and weights that are not of one model, according to the headers of the weights."""

    exit_code = 59


class OversizedFileError(SourceError):
    """A file of a model that is larger than any file of its kind may be."""

    exit_code = 64


class OtherSourceError(PhiBotError):
    """The target repo holds, or will hold, files made from another model: it is never overwritten."""

    exit_code = 63


class WorkerLimitError(BuildError):
    """A toolchain took many times the time or memory that the model can need, and was stopped."""

    exit_code = 67


class ContradictedError(PhiBotError):
    """A published repo is not what it says of itself, or not as its original (`phi-bot check`)."""

    exit_code = 68


class Interrupted(PhiBotError):  # noqa: N818 - not an error of anything
    """Ctrl-C, or the time limit of a runner."""

    exit_code = 130
