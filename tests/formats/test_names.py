"""No format's name appears outside its folder, its card, its documentation and its tests."""

import re

import pytest

from bot import catalogue, format_folders
from bot.formats.registry import all_formats
from tests.controls.faults import FAULTS
from tests.formats.hooks import hooks
from tests.names import helper_files, said, shared_files

#: How a format that is named as a package would stand where only the package may.
AS_FORMAT = {"torch": r"(?<![/\w])torch/[a-z*]|formats.torch|compressed.tensors"}
NAMES = re.compile("|".join(AS_FORMAT.get(name, name) for name in format_folders.names()), re.IGNORECASE)

#: Files that may hold a name all the same, and why. Remove a line together with its reason.
ALLOWED = {
    "action.yml": "says to people what the Action makes, with examples of variants",
    "bot/cli/options.py": "a help text with examples of variants",
    "bot/config/phi-bot.schema.json": "made of the help texts",
    "bot/config/places.py": "a help text with an example of a repo's name",
    "bot/config/tables.py": "help texts with examples of variants",
    "bot/localhub/metadata.py": "the real Hub's own knowledge of files, which the embedded one mirrors",
    "bot/localhub/store.py": "the real Hub's own knowledge of files, which the embedded one mirrors",
    "bot/source/adapters.py": "which files of a stranger's repo are weights, whatever is built here",
    "templates/estimates.md.j2": "a page of the documentation: what was measured, in sentences",
}

#: The same of benchmarks, and of what tests share. What they need of every format is in tests/formats/NAME/hooks.py.
HELPERS = {
    "benchmarks/estimates/measure.py": "which rows were measured, and up to which size: results have their names",
    "benchmarks/importance.py": "measures the types of the one format that quantizes by a matrix, for its page",
    "benchmarks/real/__main__.py": "which jobs were measured, and the packages that the table names",
    "benchmarks/real/outputs.py": "which files hold weights, and where they begin, whoever wrote them",
    "benchmarks/real/table.py": "a page of the documentation: what was measured, in sentences",
    "benchmarks/scale.py": "which rows were measured: eleven, in ten repos a source",
    "tests/checking/gguf_files.py": "files of the one format whose headers are read on a Hub",
    "tests/cli/world.py": "an example of a variant",
    "tests/controls/__main__.py": "a page of the documentation: which row stands for a format that has no default",
    "tests/faults/bench.py": "two examples: a file that is streamed, and a folder of files",
    "tests/filled.py": "examples of variants",
    "tests/pages/cards/examples.py": "a repo of each format, as cards show them",
    "tests/pages/status/examples.py": "repos and variants in every state, as the status page shows them",
    "tests/reconvert/examples.py": "examples of variants with every verdict",
    "tests/steps/proven.py": "an example of a variant, and figures of one",
    "tests/warm/server.py": "packages of a toolchain that spoil a process which forks",
    "tests/worker/fixtures.py": "the rows of each format, built once, for the tests in its folder",
    "tests/worker/running.py": "measures an importance matrix, for the tests of the format that has them",
    "tests/worker/twins.py": "the file of an importance matrix, for the tests of the format that has them",
}


@pytest.mark.parametrize("name", sorted(shared_files().keys() - ALLOWED.keys()))
def test_a_shared_file_names_no_format(name: str) -> None:
    assert said(shared_files()[name], NAMES) == []


@pytest.mark.parametrize("name", ALLOWED)
def test_an_exception_is_still_needed(name: str) -> None:
    assert said(shared_files()[name], NAMES)


@pytest.mark.parametrize("name", sorted(helper_files().keys() - HELPERS.keys()))
def test_a_helper_of_tests_and_a_benchmark_name_no_format(name: str) -> None:
    assert said(helper_files()[name], NAMES) == []


@pytest.mark.parametrize("name", HELPERS)
def test_an_exception_among_helpers_is_still_needed(name: str) -> None:
    assert said(helper_files()[name], NAMES)


@pytest.mark.parametrize("name", format_folders.names())
def test_a_formats_hooks_answer_tests_and_benchmarks(name: str) -> None:
    found = hooks(name)
    assert catalogue.all_variants()[found.journey.variant].format == name
    form = all_formats()[name]
    for files in (found.files, found.published):
        assert all(file.endswith(form.suffixes) for file in files)
    assert set(found.versions) <= set(form.packages)
    assert found.seen_by.keys() <= found.faults.keys() <= {f.name for f in FAULTS if not f.source and not f.artifact}
