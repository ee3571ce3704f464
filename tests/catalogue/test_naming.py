"""How repos are named, and whose a repo is."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import catalogue, config
from bot.catalogue import naming
from bot.errors import ConfigError, OtherSourceError
from bot.formats.registry import all_formats
from bot.records.artifacts import RECORD_VERSION, RepoRecord, Variant
from tests.pages.cards.examples import GGUF

ROWS = sorted(catalogue.all_variants().values(), key=lambda v: v.name)
REPO_ID = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")


@pytest.mark.parametrize("row", ROWS, ids=lambda v: v.name)
def test_without_a_template_of_its_own_a_repo_is_named_as_ever(row: Variant) -> None:
    named = naming.repo_of("me", "microsoft/Phi-9", row)
    assert named == f"me/Phi-9{all_formats()[row.format].repo_suffix(row)}"


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{owner}-{name}{suffix}", "microsoft-Phi-9-GGUF"),
        ("{name}-by-{owner}{suffix}", "Phi-9-by-microsoft-GGUF"),
        ("q.{name}{suffix}_v1", "q.Phi-9-GGUF_v1"),
    ],
)
def test_a_template_says_where_owner_name_and_suffix_go(tmp_path: Path, template: str, name: str) -> None:
    file = tmp_path / "phi-bot.toml"
    file.write_text(f'[publish]\nrepo = "{template}"\n')
    read = config.load(file, environ={}).publish.repo
    row = catalogue.all_variants()["gguf/q4_k_m"]
    assert naming.repo_of("me", "microsoft/Phi-9", row, read) == f"me/{name}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{name}", r"needs {suffix} once"),
        ("{owner}{suffix}", r"needs {name} once"),
        ("{name}{name}{suffix}", r"needs {name} once"),
        ("{owner}{owner}{name}{suffix}", "has {owner} twice"),
        ("{namespace}-{name}{suffix}", r"has '{' in it, which no name of a repo may have"),
        ("{name!r}{suffix}", "allowed is the name of a repo"),
        ("{name}/{suffix}", "allowed is the name of a repo"),
        ("-{name}{suffix}", "makes names that the Hub does not take"),
        ("{owner}--{name}{suffix}", "makes names that the Hub does not take"),
        ("{name}{suffix}.git", "makes names that the Hub does not take"),
    ],
)
def test_a_template_that_makes_no_names_is_refused_with_its_line(tmp_path: Path, template: str, said: str) -> None:
    file = tmp_path / "phi-bot.toml"
    file.write_text(f'[publish]\nnamespace = "me"\nrepo = "{template}"\n')
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        config.load(file, environ={})
    assert f"{file}:3:" in caught.value.message
    assert "repo" in caught.value.message


FIELDS = st.sampled_from(["{owner}", "{name}", "{suffix}"])
TEMPLATES = st.lists(FIELDS | st.text("ab9._-{}", max_size=3), max_size=7).map("".join)
WORDS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9]|[._-][A-Za-z0-9]){0,10}", fullmatch=True)


@given(template=TEMPLATES, owner=WORDS, name=WORDS)
def test_a_name_made_by_a_template_is_accepted_by_the_hub_or_refused_first(
    template: str, owner: str, name: str
) -> None:
    if naming.objection(template) is not None:
        return
    made = {row.name: naming.repo_of("me", f"{owner}/{name}", row, template) for row in ROWS}
    for repo_id in made.values():
        assert naming.too_odd(repo_id) is not None or REPO_ID.fullmatch(repo_id)
    # Files that lie in different repos by the formats' own rules lie in different ones by any template.
    suffixes = {row.name: all_formats()[row.format].repo_suffix(row) for row in ROWS}
    assert len(set(made.values())) == len(set(suffixes.values()))


# ---- whose a repo is ---------------------------------------------------------------------------------------------


def record(*sources: tuple[str, str | None]) -> RepoRecord:
    builds = []
    for repo_id, commit in sources:
        build = GGUF.builds[0].build
        source = replace(build.source, repo_id=repo_id, commit=commit)
        builds.append(replace(GGUF.builds[0], build=replace(build, source=source)))
    return RepoRecord(version=RECORD_VERSION, builds=tuple(builds))


COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    "held",
    [
        (),
        (("microsoft/Phi-9", OTHER),),
        (("Microsoft/PHI-9", OTHER),),
        (("old/Phi-9", OTHER), ("microsoft/Phi-9", COMMIT)),
    ],
    ids=["nothing", "an older commit", "another spelling", "a former name"],
)
def test_a_source_may_add_to_a_repo_made_from_it(held: tuple[tuple[str, str | None], ...]) -> None:
    source = record(("microsoft/Phi-9", COMMIT)).builds[0].build.source
    naming.check_source("me/x", record(*held), source, {"old/Phi-9": "Microsoft/Phi-9"}.get)


@pytest.mark.parametrize(
    ("held", "named"),
    [
        ((("azure/Phi-9", OTHER),), "azure/Phi-9"),
        ((("microsoft/Phi-9", OTHER), ("azure/Phi-9", OTHER)), "azure/Phi-9"),
        ((("gone/Phi-9", OTHER),), "gone/Phi-9"),
        ((("microsoft/Phi-9", None),), "microsoft/Phi-9"),
    ],
    ids=["another", "another beside its own", "one that is gone", "a folder that is called so"],
)
def test_a_repo_of_another_source_is_refused_with_a_remedy(
    held: tuple[tuple[str, str | None], ...], named: str
) -> None:
    source = record(("microsoft/Phi-9", COMMIT)).builds[0].build.source
    with pytest.raises(OtherSourceError, match=f"^me/x holds files made from {named}, not from micro") as caught:
        naming.check_source("me/x", record(*held), source, {"azure/Phi-9": "azure/Phi-9"}.get)
    assert 'publish.repo in phi-bot.toml to a template with the owner in it, such as "{owner}-' in caught.value.hint


def test_no_other_module_makes_up_the_name_of_a_repo() -> None:
    bot = Path(naming.__file__).parents[1]
    files = [f.relative_to(bot) for f in bot.rglob("*.py") if ".repo_suffix(" in f.read_text(encoding="utf-8")]
    assert files == [Path("catalogue/naming.py")]
