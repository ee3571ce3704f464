"""What a side is: equal for all that changes no published file, and different where something does."""

import shutil
from functools import cache
from pathlib import Path

import pytest

from bot.reconvert import sides
from bot.reconvert.affected import changes
from bot.reconvert.child import ChildError, Code, code_of
from bot.reconvert.records import Difference
from bot.reconvert.sides import describe_sides, identical
from tests.page_reader import ROOT
from tests.reconvert.trees import Q4_K_M, change, checkout, extend, move

pytestmark = pytest.mark.process
FORMATS = ["gguf", "mlx", "onnx", "openvino", "torch"]
EVERY = "every format"

_ASKED = sides._asked
_ours = cache(_ASKED)


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """A checkout like ours."""
    return checkout(tmp_path / "head")


@pytest.fixture(autouse=True)
def _this_code_answers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what this very code says of itself kept: it says the same each time, and is asked in every test."""
    monkeypatch.setattr(sides, "_asked", lambda side, name: (_ours if side == code_of(ROOT) else _ASKED)(side, name))


def found(base: Code, head: Code) -> tuple[Difference, ...]:
    return changes(describe_sides(base, head))


def differences(head: Path) -> list[tuple[str, str]]:
    return [(c.what, c.name) for c in found(code_of(ROOT), code_of(head))]


def test_a_change_without_effect_on_publications_is_not_a_difference(head: Path) -> None:
    extend(head, "bot/formats/gguf/worker/build.py", "\n# A comment.\n")
    change(head, "bot/formats/gguf/format.py", '"""GGUF, for llama.cpp and everything built on it."""', '"""GGUF."""')
    extend(head, "bot/localhub/pages.py", "\nANOTHER = 1\n")
    change(head, "bot/formats/gguf/variants.toml", "The smallest; for machines where nothing else fits", "Small")
    (head / "README.md").write_text("# Another one\n")
    assert differences(head) == []


def test_the_status_page_is_told_and_builds_nothing(head: Path) -> None:
    extend(head, "bot/pages/status/pages.py", "\nANOTHER = 1\n")
    assert differences(head) == [("reports", EVERY)]


def test_a_recipe_is_its_variant_alone(head: Path) -> None:
    change(head, "bot/formats/gguf/variants.toml", Q4_K_M, 'options = { ftype = "Q4_K_M", imatrix = true }')
    assert differences(head) == [("recipe", "gguf/q4_k_m")]


def test_the_training_text_is_part_of_the_recipe_of_variants_with_an_importance_matrix(head: Path) -> None:
    extend(head, "bot/texts/training.txt", "\nAnother line.\n")
    seen = differences(head)
    recipes = {name for what, name in seen if what == "recipe"}
    assert {"gguf/q2_k", "gguf/iq4_xs"} <= recipes
    assert not recipes & {"gguf/q4_k_m", "gguf/q8_0"}
    assert [(what, name) for what, name in seen if what != "recipe"] == [
        ("importance", EVERY),
        ("sample", "every family"),
    ]


def test_code_of_importance_matrices_is_of_the_variants_that_take_one(head: Path) -> None:
    extend(head, "bot/building/importance_matrix.py", "\nANOTHER = 1\n")
    assert differences(head) == [("importance", EVERY)]
    extend(head, "bot/formats/gguf/worker/imatrix.py", "\nANOTHER = 1\n")
    assert differences(head) == [("code", "gguf"), ("importance", EVERY)]


def test_code_in_c_is_of_the_format_that_is_quantized_with_it(head: Path) -> None:
    extend(head, "bot/formats/gguf/native/kquants.c", "\nint another;\n")
    (seen,) = found(code_of(ROOT), code_of(head))
    assert (seen.what, seen.name, seen.files) == ("code", "gguf", ("bot/formats/gguf/native/kquants.c",))


def test_plots_are_the_pictures_of_cards(head: Path) -> None:
    extend(head, "bot/worker/plots.py", "\nANOTHER = 1\n")
    extend(head, "bot/pages/plots.py", "\nANOTHER = 1\n")
    assert differences(head) == [("pictures", EVERY)]
    text = (head / "bot/toolchains/plots.txt").read_text()
    (head / "bot/toolchains/plots.txt").write_text(text.replace("--hash=sha256:0", "--hash=sha256:1", 1))
    (seen,) = found(code_of(ROOT), code_of(head))
    assert seen.files == ("bot/pages/plots.py", "bot/toolchains/plots.txt", "bot/worker/plots.py")


@pytest.mark.parametrize(
    ("path", "touches"),
    [
        ("bot/publishing/due.py", ["plan"]),
        ("bot/steps/publish.py", ["publishing"]),
        ("bot/steps/run.py", ["plan", "publishing"]),
        ("bot/proving/verify_artifact.py", ["steps"]),
        ("bot/building/reference.py", ["measuring"]),
        ("bot/cli/steps.py", ["commands"]),
    ],
)
def test_a_change_of_a_steps_rules_touches_their_subject(head: Path, path: str, touches: list[str]) -> None:
    extend(head, path, "\nANOTHER = 1\n")
    seen = found(code_of(ROOT), code_of(head))
    assert [c.what for c in seen] == touches
    assert {c.files for c in seen} == {(path,)}


def test_another_error_message_is_not_a_new_reference(head: Path) -> None:
    message = "No answer of the reference"
    extend(
        head,
        "bot/building/reference.py",
        f'\ndef _never(name: str) -> None:\n    raise ValueError(f"{message}: {{name}}")\n',
    )
    base = checkout(head.parent / "base")
    shutil.copyfile(head / "bot/building/reference.py", base / "bot/building/reference.py")
    change(head, "bot/building/reference.py", f'f"{message}: {{name}}"', 'f"{name!r} has no answer", "at all"')
    assert [(c.what, c.name) for c in found(code_of(base), code_of(head))] == [
        ("measuring", EVERY)
    ]  # one argument more
    change(head, "bot/building/reference.py", ', "at all"', "")
    assert found(code_of(base), code_of(head)) == ()


def test_modules_that_were_moved_are_the_same_ones(head: Path) -> None:
    move(head, "bot/source/sparse_files.py", "bot/source/sparse_files.py")
    move(head, "bot/formats/gguf/worker/rotary.py", "bot/houses/gguf/turning.py")
    for room in ("houses", "houses/gguf"):
        (head / "bot" / room / "__init__.py").write_text('"""A room."""\n')
    assert differences(head) == []


def test_a_file_in_no_row_touches_everything(head: Path) -> None:
    (head / "bot/secrets.py").write_text("WORDS = ()\n")
    seen = found(code_of(ROOT), code_of(head))
    assert {c.files for c in seen} == {("bot/secrets.py",)}
    assert [name for what, name in differences(head) if what in ("code", "cards")] == FORMATS * 2
    assert {c.what for c in seen} >= {"steps", "measuring", "importance", "sample", "pictures", "plan", "publishing"}


def test_the_version_of_a_format_is_the_recipe_of_all_its_variants(head: Path) -> None:
    change(head, "bot/formats/mlx/format.py", "    version = ", "    version = 1")
    seen = differences(head)
    recipes = [name for what, name in seen if what == "recipe"]
    assert len(recipes) > 3
    assert all(name.startswith("mlx/") for name in recipes)
    assert ("code", "mlx") in seen


def test_a_lock_touches_its_format_alone_and_only_by_the_packages_it_installs(head: Path) -> None:
    change(head, "bot/formats/mlx/lock.txt", "# disk = ", "# disk = 1")
    assert differences(head) == []
    text = (head / "bot/formats/mlx/lock.txt").read_text()
    (head / "bot/formats/mlx/lock.txt").write_text(text.replace("--hash=sha256:0", "--hash=sha256:1", 1))
    assert differences(head) == [("lock", "mlx")]


def test_a_formats_code_touches_its_format_and_shared_code_touches_all(head: Path) -> None:
    extend(head, "bot/formats/onnx/worker/rotary.py", "\nANOTHER = 1\n")
    assert differences(head) == [("code", "onnx")]
    extend(head, "bot/worker/distance.py", "\nANOTHER = 1\n")
    assert differences(head) == [("code", "onnx"), ("steps", EVERY)]


def test_code_that_does_not_parse_is_another_one(head: Path) -> None:
    extend(head, "bot/formats/mlx/worker/cpu.py", "\n" + "(" * 5000)
    assert differences(head) == [("code", "mlx")]


def test_a_template_is_its_format_and_a_shared_one_all(head: Path) -> None:
    extend(head, "templates/gguf.md.j2", "\nAnother line.\n")
    assert differences(head) == [("cards", "gguf")]
    extend(head, "templates/_files.md.j2", "\nAnother line.\n")
    assert [name for what, name in differences(head) if what == "cards"] == FORMATS


def test_a_configuration_is_its_keys_and_its_gates(head: Path) -> None:
    (head / "phi-bot.toml").write_text('[watch]\ninclude = ["phi-4*"]\n[verify.cost]\nint4 = 1.1\n')
    seen = found(code_of(ROOT), code_of(head))
    assert [(c.what, c.name, c.before, c.after) for c in seen] == [
        ("gate", "int4", "1.5", "1.1"),
        ("config", "verify.cost.int4", "", "1.1"),
        ("config", "watch.include", "", '["phi-4*"]'),
    ]


def test_a_repository_of_a_publisher_is_its_configuration(tmp_path: Path) -> None:
    for name, variants in (("base", "gguf"), ("head", "mlx")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "phi-bot.toml").write_text(f'[build]\nvariants = ["{variants}"]\n')
    seen = found(code_of(tmp_path / "base"), code_of(tmp_path / "head"))
    assert [(c.what, c.name, c.before, c.after) for c in seen] == [("config", "build.variants", '["gguf"]', '["mlx"]')]


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("bot/catalogue/__init__.py", "def all_variants(:\n", "SyntaxError"),
        ("bot/catalogue/__init__.py", "raise SystemExit(7)\n", "it ended with code 7"),
        ("bot/catalogue/__init__.py", "print('[' * 100000)\nraise SystemExit(0)\n", ""),
        ("phi-bot.toml", "[watch]\nauthours = []\n", "authours"),
        ("bot/formats/gguf/variants.toml", "", "KeyError"),
    ],
    ids=["syntax", "exit", "nonsense", "config", "catalogue"],
)
def test_a_head_that_cannot_be_read_is_named(head: Path, path: str, content: str, said: str) -> None:
    (head / path).write_text(content)
    with pytest.raises(ChildError, match=f"^the head cannot be read: .*{said}"):
        describe_sides(code_of(ROOT), code_of(head))


def test_a_side_from_before_it_could_be_asked_is_said_to_be_too_old(head: Path) -> None:
    change(head, "bot/cli/commands.py", '"describe",', '"described",')
    with pytest.raises(ChildError, match=r"^the base cannot be read: its code is too old .* no `phi-bot describe`"):
        describe_sides(code_of(head), code_of(ROOT))


def test_sides_that_are_the_same_byte_for_byte_are_told_without_running_them(head: Path) -> None:
    extend(head, "bot/__init__.py", "\nraise SystemExit('run')\n")
    both = code_of(head), code_of(checkout(head.parent / "other"))
    assert not identical(*both)
    shutil.copyfile(head / "bot/__init__.py", head.parent / "other/bot/__init__.py")
    assert identical(*both)
    (head / "phi-bot.toml").write_text("")
    assert not identical(*both)


def test_links_and_devices_in_a_checkout_are_not_read(head: Path) -> None:
    (head / "templates" / "_zero.md.j2").symlink_to("/dev/zero")
    assert [name for _, name in differences(head)] == FORMATS  # the cards of all: another file, of nothing
