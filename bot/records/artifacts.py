"""The words of the project as frozen dataclasses that read and write JSON.

Nothing here knows a toolchain, the Hub or a disk. Only the standard library is imported, because workers import
this module inside toolchains.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from bot.records.base import Json as Json
from bot.records.base import MalformedRecordError as MalformedRecordError
from bot.records.base import Record as Record
from bot.records.base import Sha256, of_version, pattern
from bot.records.evidence import Evidence

RECORD_VERSION = 2  # of phi-bot.json; raised when a reader of the old one would be misled

# Read from a stranger's record, these name files and folders on our disk.
Commit = Annotated[str, pattern("[0-9a-f]{40}", "a commit of 40 hex digits")]
FileDigest = Annotated[str, pattern("sha256:[0-9a-f]{64}|git:[0-9a-f]{40}", "sha256:… or git:…")]
_PART = r"(?!\.{1,2}(?:/|\Z))[^/\\\x00-\x1f\x7f]+"
_PATH = rf"(?![A-Za-z]:){_PART}(?:/{_PART})*"
RelativePath = Annotated[str, pattern(_PATH, "a path inside its folder")]
Folder = Annotated[str, pattern(rf"(?:{_PATH})?", "a folder inside its repo, or nothing")]
VariantName = Annotated[str, pattern(rf"{_PART}/{_PART}", "a variant's name: FORMAT/NAME")]


@dataclass(frozen=True, kw_only=True)
class FileEntry(Record):
    """A file: its path with forward slashes, its size in bytes, its sha256 in hex."""

    path: RelativePath
    size: int
    sha256: Sha256


@dataclass(frozen=True, kw_only=True)
class SourceFile(Record):
    """A file of a source repo. ``digest`` is ``sha256:…`` for an LFS file and ``git:…`` (blob sha1) for any other."""

    path: str
    size: int
    digest: FileDigest

    @property
    def is_lfs(self) -> bool:
        """Say whether the Hub itself knows the sha256 of its content."""
        return self.digest.startswith("sha256:")


@dataclass(frozen=True, kw_only=True)
class LeftOut(Record):
    """The rest of a model of which the text part alone is read (see source/text_parts.py).

    ``inputs`` are what therefore cannot be given to the files (``pictures``, ``speech``). ``tensors`` with ``bytes``
    in all are stored beside the text part, and are not in the files.
    """

    inputs: tuple[str, ...]
    tensors: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Release(Record):
    """A source model at one commit.

    ``repo_id`` is ``owner/name`` on the Hub, or ``local/NAME`` for a folder; ``commit`` is 40 hex digits, or None for
    a folder; ``folder`` is the folder's absolute path, or None for a repo. ``card`` holds the metadata that cards
    inherit (license, language, …): untrusted data. ``files`` are those that count, and ``notes`` say in a line each
    what beside them a person could take for a part of the model.

    Of a copy (see source/copies.py) ``layout`` is the class that it was saved as, while ``config`` is Phi-3's here;
    ``read_as`` says what makes it a Phi, and ``origin`` is the repo of Microsoft's that its card leads to, if it does.
    All three are "" for a model in its own class. A model with pictures or speech, whose text part alone is read, has a
    ``layout`` and a ``read_as`` too, and ``left_out`` is the rest of it.

    Of an adapter, ``base`` is the release that it is merged into, and ``adapter`` its adapter_config.json; ``files``
    are the adapter's own, while ``config`` and ``layout`` are those of the merged model, and ``content_digest`` covers
    both.
    """

    repo_id: str
    commit: Commit | None
    content_digest: Sha256
    files: tuple[SourceFile, ...]
    config: dict[str, Json]
    card: dict[str, Json] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    folder: str | None = None
    notes: tuple[str, ...] = ()
    layout: str = ""
    read_as: str = ""
    origin: str = ""
    left_out: LeftOut | None = None
    base: "Release | None" = None
    adapter: dict[str, Json] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name without its owner."""
        return self.repo_id.rsplit("/", 1)[-1]

    @property
    def label(self) -> str:
        """``repo_id@commit``, the commit cut to 12 digits; a folder has none."""
        return label_of(self.repo_id, self.commit)

    @property
    def own_weight_bytes(self) -> int:
        """Bytes of all safetensors files of its own: those of an adapter without its base's."""
        return sum(f.size for f in self.files if f.path.endswith(".safetensors"))

    @property
    def weight_bytes(self) -> int:
        """Bytes of all safetensors files, with those of an adapter's base."""
        return self.own_weight_bytes + (self.base.weight_bytes if self.base else 0)

    @property
    def read_bytes(self) -> int:
        """Bytes of the weights that are read: all of them, but for a text part's rest of the model."""
        return self.weight_bytes - (self.left_out.bytes if self.left_out else 0)

    @property
    def all_bytes(self) -> int:
        """Bytes of all files, with those of an adapter's base."""
        return sum(f.size for f in self.files) + (self.base.all_bytes if self.base else 0)

    @property
    def bytes_beside_weights(self) -> int:
        """Bytes of all other files: tokenizer, configuration and licences."""
        return self.all_bytes - self.weight_bytes

    @property
    def view_bytes(self) -> int:
        """Bytes that the view for toolchains takes beside the files themselves.

        That of a copy has its own weights, and so has that of a text part, and of an adapter, which are merged.
        """
        if self.left_out:
            return self.bytes_beside_weights + self.read_bytes
        copies = (1 if self.base else 0) + (1 if self.layout else 0)
        return (copies + 1) * self.bytes_beside_weights + copies * self.weight_bytes

    @property
    def parameters(self) -> int:
        """About how many parameters are read: the bytes of the weights over those of their declared type, or over 2."""
        if self.base:
            return self.base.parameters
        return self.read_bytes // (4 if self.declared_type == "float32" else 2)

    @property
    def declared_type(self) -> str:
        """The type of the weights by config.json (``bfloat16``), an adapter's base's; "" where it does not say one."""
        if self.base:
            return self.base.declared_type
        declared = self.config.get("torch_dtype") or self.config.get("dtype")
        return declared.removeprefix("torch.") if isinstance(declared, str) else ""


SIZE = "size"  #: the option of a recipe whose files have at most so many bytes, which a person gave


@dataclass(frozen=True, kw_only=True)
class Variant(Record):
    """One row of the catalogue, or one with a size that a person gave (see bot/catalogue/sizes.py).

    ``precision`` is the class that gates and cards speak of (``int4``, ``fp16`` …); "" of one with a size, until it is
    known of which model it is. ``bits_per_weight`` is an estimate of what is stored for each parameter, all overhead
    included. ``target`` is the device that the runtime
    needs (``cpu``, ``cuda`` …: bot/devices/devices.toml). ``options`` go to the toolchain, and are part of the build
    key.
    """

    name: VariantName
    precision: str
    bits_per_weight: float
    summary: str
    target: str = "cpu"
    default: bool = False
    options: dict[str, Json] = field(default_factory=dict)

    @property
    def format(self) -> str:
        """``gguf`` of ``gguf/q4_k_m``."""
        return self.name.split("/", 1)[0]

    @property
    def short_name(self) -> str:
        """``q4_k_m`` of ``gguf/q4_k_m``."""
        return self.name.split("/", 1)[1]

    @property
    def is_calibrated(self) -> bool:
        """Whether the weights are rounded for what they are multiplied with."""
        return self.options.get("quality") == "calibrated"

    @property
    def size_limit(self) -> int | None:
        """The bytes that its files may have at most, where a person gave a size."""
        size = self.options.get(SIZE)
        return size if isinstance(size, int) else None


@dataclass(frozen=True, kw_only=True)
class SourceRef(Record):
    """Where an artifact came from, as records and cards say it."""

    repo_id: str
    commit: Commit | None
    content_digest: Sha256

    @property
    def label(self) -> str:
        """``repo_id@commit``, the commit cut to 12 digits; a folder has none."""
        return label_of(self.repo_id, self.commit)


@dataclass(frozen=True, kw_only=True)
class ToolchainRef(Record):
    """The locked environment that built an artifact: its name, its lock's digest, and the versions that matter."""

    name: str
    lock_digest: Sha256
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Cost(Record):
    """The cost of a build: wall-clock seconds, and peak resident memory of the worker in bytes."""

    seconds: float
    peak_memory: int


@dataclass(frozen=True, kw_only=True)
class Imatrix(Record):
    """An importance matrix: which text it was measured on, and how much of it; ``sha256`` is that of its file."""

    text: str
    text_sha256: Sha256
    sha256: Sha256
    chunks: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class ImatrixTrial(Record):
    """The result of trying an importance matrix: the mean KL, in nats per token, of the builds without one and with it.

    Each has its standard error. Both were measured on the short side, by what verifying measures.
    """

    without_kl: float
    without_error: float
    with_kl: float
    with_error: float

    @property
    def gains(self) -> bool:
        """Say whether the build with one is nearer to the original by more than two standard errors of the difference.

        The errors count as independent, though both are measured on the same tokens: so it asks for more than it must.
        """
        return self.without_kl - self.with_kl > 2 * math.hypot(self.without_error, self.with_error)


@dataclass(frozen=True, kw_only=True)
class Calibration(Record):
    """What weights were rounded for: the second moments of the inputs of each matrix on a text.

    ``tokens`` of the text were read, and ``sha256`` is that of the moments.
    """

    text: str
    text_sha256: Sha256
    tokens: int
    sha256: Sha256


@dataclass(frozen=True, kw_only=True)
class TypesByCost(Record):
    """The types of a file's tensors, chosen by what rounding to them costs: by type, the names of tensors.

    A GGUF file names its tensors itself; of other files they are those of the source.

    ``predicted_kl`` is what the best choice of the same size costs in all, in nats per token, and ``own_kl`` what the
    tool's own mix does. ``error`` is the standard error of their difference.

    Under a size that a person gave, the tool's mix is the one of least cost that has no more bytes: ``own`` is what the
    tool calls it. If all have more, there is no ``own_kl``.
    """

    predicted_kl: float
    own_kl: float | None
    error: float
    types: dict[str, tuple[str, ...]]
    own: str = ""

    @property
    def gains(self) -> bool:
        """Say whether the choice is better than the tool's own by more than two standard errors.

        If not, the tool's own is kept, unless the files have a size that a person gave: no mix is made for that.
        """
        return self.own_kl is None or self.own_kl - self.predicted_kl > 2 * self.error


@dataclass(frozen=True, kw_only=True)
class BuildRecord(Record):
    """The source, recipe and toolchain of a build. Paths of ``files`` are relative to the artifact.

    ``imatrix`` is what the weights were quantized by: where the recipe asks for one, or where ``imatrix_trial`` gains.
    ``read_as`` and ``left_out`` are as in Release.
    ``calibration`` is what they were rounded for where the recipe is calibrated, and ``types_by_cost`` are the types of
    tensors where these were chosen.
    ``base`` is what an adapter, which is then the ``source``, was merged into; the content digest of that covers both.
    """

    build_key: Sha256
    source: SourceRef
    variant: Variant
    toolchain: ToolchainRef
    files: tuple[FileEntry, ...]
    cost: Cost
    bot_version: str
    created: str  # UTC, ISO 8601
    path_in_repo: Folder
    imatrix: Imatrix | None = None
    imatrix_trial: ImatrixTrial | None = None
    read_as: str = ""
    left_out: LeftOut | None = None
    calibration: Calibration | None = None
    base: SourceRef | None = None
    types_by_cost: TypesByCost | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)


@dataclass(frozen=True, kw_only=True)
class ProvenBuild(Record):
    """A build with its evidence, as the record of a repo holds it."""

    build: BuildRecord
    evidence: Evidence


@dataclass(frozen=True, kw_only=True)
class RepoRecord(Record):
    """``phi-bot.json``: everything this bot has put into one repo. One entry a variant."""

    version: Annotated[int, of_version(RECORD_VERSION)]
    builds: tuple[ProvenBuild, ...]


@dataclass(frozen=True, kw_only=True)
class Publication(Record):
    """Artifacts on the Hub. ``commit`` is the head; ``created`` is False when all of it was there already.

    ``pictures`` are the paths of those that this commit put beside the card, where anybody can see them.
    """

    repo_id: str
    commit: Commit
    url: str
    created: bool
    builds: tuple[ProvenBuild, ...]
    pictures: tuple[RelativePath, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Failure(Record):
    """A variant that was not published: at which step, why, and what to do about it."""

    release: str  # repo_id@commit
    variant: str
    step: Literal["plan", "build", "verify", "stage", "publish"]
    message: str
    hint: str
    exit_code: int = 3  # of the error, see errors.py


@dataclass(frozen=True, kw_only=True)
class Artifact(Record):
    """A folder that a build left, and what is known of it. ``evidence`` is None until it is verified."""

    folder: str
    build: BuildRecord
    evidence: Evidence | None = None


@dataclass(frozen=True, kw_only=True)
class Staged(Record):
    """An artifact in the staging repo ``repo_id``: its ``folder`` there, at ``commit``."""

    repo_id: str
    commit: Commit
    folder: Folder
    build: BuildRecord


@dataclass(frozen=True, kw_only=True)
class Proposal(Record):
    """Artifacts as a pull request on the Hub: people can try them at ``refs/pr/NUMBER`` of ``repo_id``."""

    repo_id: str
    number: int
    url: str
    builds: tuple[ProvenBuild, ...]


@dataclass(frozen=True, kw_only=True)
class Report(Record):
    """The output of a step for the next one: results, and failures on the way so far."""

    artifacts: tuple[Artifact, ...] = ()
    staged: tuple[Staged, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    publications: tuple[Publication, ...] = ()
    failures: tuple[Failure, ...] = ()


def label_of(repo_id: str, commit: str | None) -> str:
    """Return ``repo_id@commit``, the commit cut to 12 digits; without one, the repo alone."""
    return f"{repo_id}@{commit[:12]}" if commit else repo_id
