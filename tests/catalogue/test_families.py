"""The families by name: the worker that makes their samples has the same."""

import ast
from pathlib import Path

import bot
from bot.catalogue.families import DEFAULT, FAMILIES


def test_each_family_has_a_sample_and_each_sample_a_family() -> None:
    # The table is read, not imported: its module imports a toolchain.
    source = (Path(bot.__file__).parent / "worker" / "sample" / "families.py").read_text(encoding="utf-8")
    tables = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Assign) and isinstance(n.value, ast.Dict)]
    names = {t.targets[0].id: t.value for t in tables if isinstance(t.targets[0], ast.Name)}
    assert {ast.literal_eval(k) for k in names["FAMILIES"].keys if k} == set(FAMILIES)  # type: ignore[attr-defined]


def test_names_are_keys_and_titles_are_the_usual_spelling() -> None:
    assert all(name == family.name == family.title.lower() for name, family in FAMILIES.items())
    assert DEFAULT in FAMILIES
    with_towers = {"phi-3-vision", "phi-3.5-vision", "phi-4-multimodal", "phi-4-reasoning-vision"}
    assert {f.name for f in FAMILIES.values() if f.text_part} == with_towers
