"""Every fault is found, in every format where it makes sense, by the check that the documentation names."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bot.catalogue.families import DEFAULT
from bot.formats.recipes import with_calibration
from tests import page_reader
from tests.controls.artifacts import LARGER_SCALE, SHIFTED_BLOCK
from tests.controls.bench import Bench, variant
from tests.controls.faults import FAULTS, FORMATS, Fault

PAGE = page_reader.ROOT / "docs" / "negative-controls.md"


def _always(fault: Fault) -> str:
    """Return the format in which a fault is tried with every `make test`; `make sweep` tries it in all of them.

    Each format has its turn, but where another family is needed it is the one that is verified soonest.
    """
    possible = [name for name in FORMATS if name in fault.formats]
    return possible[FAULTS.index(fault) % len(possible) if fault.family == DEFAULT else 0]


CELLS = [
    pytest.param(fault, name, id=f"{name}-{fault.name}", marks=[] if name == _always(fault) else pytest.mark.sweep)
    for name in FORMATS
    for fault in FAULTS
    if name in fault.formats
]


#: Those that only the weights themselves give away: always tried on calibrated files too, others by `make sweep`.
_IN_WEIGHTS = (LARGER_SCALE, SHIFTED_BLOCK, "one embedding row shifted", "rows of queries and keys permuted")
CALIBRATED_CELLS = [
    pytest.param(fault, name, id=f"{name}-{fault.name}", marks=[] if fault.name in _IN_WEIGHTS else pytest.mark.sweep)
    for name in FORMATS
    for fault in FAULTS
    if name in fault.formats and with_calibration(variant(name)).is_calibrated
]


REAL_CELLS = [
    pytest.param(fault, name, id=f"{name}-{fault.name}")
    for name in FORMATS
    for fault in FAULTS
    if fault.real and name in fault.formats
]


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One place for all faults: what is healthy is built and verified once."""
    return Bench(tmp_path_factory.mktemp("controls"))


@pytest.fixture(scope="session")
def calibrated_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The same for calibrated files."""
    return Bench(tmp_path_factory.mktemp("calibrated controls"), calibrated=True)


@pytest.mark.toolchain
@pytest.mark.usefixtures("warm_toolchains")
@pytest.mark.parametrize(("fault", "format_name"), CELLS)
def test_a_fault_is_found(bench: Bench, sample_of: Callable[[str], Path], fault: Fault, format_name: str) -> None:
    failed = bench.failed_checks(fault, sample_of(fault.family), format_name)
    assert fault.seen_in(format_name) in failed, f"{fault.name}: {failed or 'nothing failed'}"


@pytest.mark.toolchain
@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("warm_toolchains")
@pytest.mark.parametrize(("fault", "format_name"), REAL_CELLS)
def test_a_fault_in_a_really_trained_model_is_found(
    bench: Bench, real_model: Path, fault: Fault, format_name: str
) -> None:
    failed = bench.failed_checks(fault, real_model, format_name)
    assert fault.seen_in(format_name) in failed, f"{fault.name}: {failed or 'nothing failed'}"


@pytest.mark.toolchain
@pytest.mark.usefixtures("warm_toolchains")
@pytest.mark.parametrize(("fault", "format_name"), CALIBRATED_CELLS)
def test_a_fault_in_a_calibrated_file_is_found(
    calibrated_bench: Bench, sample_of: Callable[[str], Path], fault: Fault, format_name: str
) -> None:
    """Also where the faulty weights were solved as any others are: they are not the source's."""
    failed = calibrated_bench.failed_checks(fault, sample_of(fault.family), format_name)
    assert fault.seen_in(format_name) in failed, f"{fault.name}: {failed or 'nothing failed'}"


def test_the_page_names_every_fault_and_the_check_that_finds_it() -> None:
    of_samples, *of_real_model = page_reader.tables(PAGE.read_text(encoding="utf-8"))
    _assert_named(of_samples, FAULTS)
    for rows in of_real_model:  # written by `python -m tests.controls real`, which takes an hour
        _assert_named(rows, [fault for fault in FAULTS if fault.real])


def _assert_named(rows: list[list[str]], faults: Sequence[Fault]) -> None:
    named = {row[0]: dict(zip(FORMATS, row[1:], strict=True)) for row in rows}
    assert list(named) == [fault.name for fault in faults]
    for fault in faults:
        for format_name, words in named[fault.name].items():
            assert (fault.seen_in(format_name) in words.split(", ")) == (format_name in fault.formats), (
                fault.name,
                words,
            )
