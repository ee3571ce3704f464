"""Records: what is written is read again, and anything else is refused by name."""

import copy
import dataclasses
import hashlib
import inspect
import json
import math
import re
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bot.records import artifacts, base, evidence, json_text, schema
from bot.records.artifacts import (
    BuildRecord,
    FileEntry,
    ImatrixTrial,
    Json,
    MalformedRecordError,
    Record,
    Release,
    RepoRecord,
    SourceFile,
    Variant,
)
from bot.records.base import NOT_EMPTY, bounds, pattern
from bot.records.digests import build_key, content_digest, digest_of, is_content
from bot.records.evidence import (
    COST,
    Check,
    Distance,
    Evidence,
    Figures,
    KnownBehaviour,
    OwnWeights,
    RoundingCost,
    judge,
)
from tests.filled import DIGEST, filled, json_values, texts
from tests.pages.cards.examples import GGUF

NAMES = vars(artifacts) | vars(evidence)
RECORDS = sorted(
    (c for c in NAMES.values() if inspect.isclass(c) and issubclass(c, Record) and c is not Record),
    key=lambda c: c.__name__,
)

# ---- every record, filled with anything that it may hold -----------------------------------------------------

any_record = st.sampled_from([filled(cls) for cls in RECORDS]).flatmap(lambda strategy: strategy)


@given(any_record)
def test_a_written_record_is_read_again(record: Record) -> None:
    text = json.dumps(record.to_json())
    assert type(record).from_json(json.loads(text)) == record


@given(any_record)
def test_a_record_shares_nothing_with_the_json_it_was_read_from(record: Record) -> None:
    written = record.to_json()
    read = type(record).from_json(written)
    _scribble(written)
    assert read == record


def _scribble(value: Json) -> None:
    if isinstance(value, list):
        for item in value:
            _scribble(item)
        value.append("scribble")
    elif isinstance(value, dict):
        for item in value.values():
            _scribble(item)
        value["scribble"] = 1


# ---- malformed input -----------------------------------------------------------------------------------------


@given(any_record, st.data())
@settings(max_examples=150)
def test_a_damaged_record_is_refused_in_one_line_or_is_still_a_record(record: Record, data: st.DataObject) -> None:
    damaged = _damage(record.to_json(), data)
    message, read = None, None
    try:
        read = type(record).from_json(damaged)
    except MalformedRecordError as error:
        message = str(error)
    if message is None:
        assert read is not None
        text = json.dumps(read.to_json())  # as text: NaN among the values of a card is not equal to itself
        assert json.dumps(type(record).from_json(json.loads(text)).to_json()) == text
    else:
        assert re.match(r"\$(\.|\[| )", message)
        assert message.isprintable()
        assert len(message) < 500


def _damage(value: Json, data: st.DataObject) -> Json:
    """Replace, remove or add one thing somewhere."""
    value = copy.deepcopy(value)
    parent: Any = None
    place: Any = None
    here = value
    while isinstance(here, dict | list) and here and data.draw(st.booleans()):
        parent, place = here, data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        here = parent[place]
    new = data.draw(st.one_of(json_values, st.just(math.nan), st.just(math.inf), st.just(10**400)))
    if parent is None:
        return new
    if isinstance(parent, dict) and data.draw(st.booleans()):
        del parent[place]
        if data.draw(st.booleans()):
            parent[data.draw(st.one_of(texts, st.just("x" * 2000)))] = new
    else:
        parent[place] = new
    return value


FILE = {"path": "a/b.gguf", "size": 3, "sha256": DIGEST}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "3"}, '$.size is "3", not a whole number'),
        ({"size": True}, "$.size is true, not a whole number"),
        ({"size": 3.5}, "$.size is 3.5, not a whole number"),
        ({"size": None}, "$.size is null, not a whole number"),
        ({"path": ["a"]}, "$.path is a list, not a path inside its folder"),
        ({"sha256": "abc"}, '$.sha256 is "abc", not a sha256 in hex'),
        ({"sha256": DIGEST.upper()}, "not a sha256 in hex"),
        ({"sha256": DIGEST + "\n"}, "not a sha256 in hex"),
        ({"mode": 1}, "$.mode is unknown; FileEntry has path, size, sha256"),
        ({"a\nb": 1}, '$["a\\nb"] is unknown'),
    ],
)
def test_the_first_difference_is_named(change: dict[str, Json], message: str) -> None:
    with pytest.raises(MalformedRecordError) as caught:
        FileEntry.from_json(FILE | change)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../x", "a//b", "a/", "./a", "a\\..\\b", "C:/x", "a\0b", "a\nb", "a/./b"]
)
def test_a_path_that_leaves_its_folder_is_refused(path: str) -> None:
    with pytest.raises(MalformedRecordError, match=r"^\$\.path is .*, not a path inside its folder"):
        FileEntry.from_json(FILE | {"path": path})


def test_a_difference_deep_inside_is_named_with_its_place() -> None:
    release: dict[str, Json] = {
        "repo_id": "a/b",
        "commit": None,
        "content_digest": DIGEST,
        "files": [{"path": "x", "size": 1, "digest": "git:" + "0" * 40}, {"path": "y", "size": 1}],
        "config": {},
    }
    with pytest.raises(MalformedRecordError, match=r"^\$\.files\[1\]\.digest is missing$"):
        Release.from_json(release)
    with pytest.raises(MalformedRecordError, match=r'^\$\.commit is "main", not a commit of 40 hex digits$'):
        Release.from_json(release | {"files": [], "commit": "main"})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 10**400])
def test_a_measure_is_a_finite_number(number: float) -> None:
    figures = {"mean_kl": 0, "p99_kl": 0, "max_kl": number, "top1_agreement": 1, "perplexity_ratio": 1}
    with pytest.raises(MalformedRecordError, match=r"^\$\.max_kl is .*not a finite number$"):
        Figures.from_json(figures)


@pytest.mark.parametrize("name", ["gguf", "", "/", "gguf/", "/q4", "a/b/c", "../x"])
def test_a_variant_has_a_format_and_a_name(name: str) -> None:
    with pytest.raises(MalformedRecordError, match=r"^\$\.name is .*, not a variant's name"):
        Variant.from_json({"name": name, "precision": "int4", "bits_per_weight": 4.5, "summary": ""})


@pytest.mark.parametrize(("version", "which"), [(artifacts.RECORD_VERSION + 1, "a newer"), (1, "an older")])
def test_a_record_of_another_bot_is_refused_as_such(version: int, which: str) -> None:
    other = {"version": version, "builds": [], "something": "else"}
    with pytest.raises(MalformedRecordError, match=rf"^\$\.version is {version}, not 2: {which} phi-bot wrote this"):
        RepoRecord.from_json(other)


# ---- rules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "right", "wrong", "allowed"),
    [
        (Annotated[int, bounds(1, 9)], [1, 9], [0, 10, True, 1.0, "1", None], "a whole number from 1 to 9"),
        (Annotated[float, bounds(0)], [0, 0.5, 10**9], [-0.1], "a number, 0 or above"),
        (Annotated[float, bounds(above=0, unit="nats")], [1e-9], [0, -1], "a number above 0, in nats"),
        (Annotated[float, bounds(above=0, high=1)], [0.5, 1], [0, 1.5], "a number above 0 up to 1"),
        (Annotated[int, bounds(high=1)], [-5, 1], [2], "a whole number up to 1"),
        (Annotated[str, pattern("[ab]+", "letters a and b")], ["ab"], ["", "abc", "a\n", 1], "letters a and b"),
        (Literal["on", "off", "auto"], ["on"], ["On", "", None, [], {}], '"on", "off" or "auto"'),
        (tuple[int, ...], [[], [1]], [1, "1", {}, None], "a list of: a whole number"),
        (Annotated[tuple[str, ...], NOT_EMPTY], [["a"]], [[]], "a list with one or more of: a string"),
        (dict[str, bool], [{}, {"a": True}], [[], "", None], "an object"),
        (bool | None, [None, True], [0, "no"], "true or false"),
    ],
)
def test_a_type_with_its_rules_decides_the_values_read_and_the_words_for_those_allowed(
    hint: Any, right: list[Json], wrong: list[Json], allowed: str
) -> None:
    for value in right:
        assert base.read(hint, value) == (tuple(value) if isinstance(value, list) else value)
    for value in wrong:
        with pytest.raises(MalformedRecordError) as caught:
            base.read(hint, value)
        assert (caught.value.path, caught.value.allowed) == ((), allowed)


def test_a_text_may_be_nested_a_hundred_levels_deep() -> None:
    assert json_text.parse("[" * 100 + "1" + "]" * 100)
    with pytest.raises(ValueError, match="nested more than 100 levels deep"):
        json_text.parse("[" * 101 + "]" * 101)


# ---- the schema of evidence.json -----------------------------------------------------------------------------

SCHEMA_FILE = Path(evidence.__file__).with_name("evidence.schema.json")
SCHEMA = Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def test_the_schema_of_evidence_is_up_to_date() -> None:
    assert SCHEMA.schema == schema.evidence(), "python -m bot.records.schema > bot/records/evidence.schema.json"
    Draft202012Validator.check_schema(SCHEMA.schema)


any_evidence = st.deferred(lambda: filled(Evidence)).map(
    lambda e: dataclasses.replace(e, version=evidence.EVIDENCE_VERSION)
)


@given(any_evidence, st.data())
@settings(max_examples=150)
def test_the_schema_accepts_exactly_the_json_that_reads_as_evidence(found: Evidence, data: st.DataObject) -> None:
    assert SCHEMA.is_valid(found.to_json())
    damaged = _damage(found.to_json(), data)
    try:
        read = Evidence.from_json(damaged)
    except MalformedRecordError:
        # The schema's integers may be written as 3.0, and its numbers may be too large for a float.
        assert not SCHEMA.is_valid(damaged) or re.search(r"\d\.0|e\+|Infinity|NaN|\d{300}", json.dumps(damaged))
    else:
        assert SCHEMA.is_valid(read.to_json()) == (read.version == evidence.EVIDENCE_VERSION)


def test_evidence_of_the_version_before_reads_as_published_repos_hold_it() -> None:
    measured = _evidence(version=2).to_json()
    del measured["own_weights"]
    assert Evidence.from_json(measured) == _evidence(version=2)


# ---- digests -------------------------------------------------------------------------------------------------


def test_a_digest_is_that_of_the_canonical_json() -> None:
    assert (
        digest_of({"b": [1, 2.5, None], "a": "é"}) == hashlib.sha256('{"a":"é","b":[1,2.5,null]}'.encode()).hexdigest()
    )
    assert digest_of({"name": "\udc80"})  # a name of a file that is not UTF-8
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of(math.nan)


@given(st.dictionaries(texts, json_values, max_size=4), st.randoms())
def test_a_digest_does_not_depend_on_order(value: dict[str, Json], random: Any) -> None:
    shuffled = list(value.items())
    random.shuffle(shuffled)
    try:
        expected = digest_of(value)
    except ValueError:  # infinity
        return
    assert digest_of(dict(shuffled)) == expected


VARIANT = Variant(
    name="gguf/q4_k_m", precision="int4", bits_per_weight=4.9, summary="", options={"ftype": "Q4_K_M"}, default=True
)


def _key(**changes: Any) -> str:
    given: dict[str, Any] = {"content_digest": "r", "variant": VARIANT, "toolchain_digest": "t", "format_version": 1}
    return build_key(**given | changes)


def test_a_build_key_changes_with_everything_that_decides_the_bytes() -> None:
    changed = [
        _key(content_digest="other"),
        _key(toolchain_digest="other"),
        _key(format_version=2),
        _key(variant=dataclasses.replace(VARIANT, options={"ftype": "Q4_K_S"})),
        _key(variant=dataclasses.replace(VARIANT, precision="int5")),
        _key(variant=dataclasses.replace(VARIANT, target="cuda")),
        _key(variant=dataclasses.replace(VARIANT, name="mlx/q4_k_m")),
    ]
    assert len({_key(), *changed}) == len(changed) + 1


def test_a_build_key_stays_when_only_words_change() -> None:
    renamed = dataclasses.replace(VARIANT, name="gguf/other", summary="!", bits_per_weight=1.0, default=False)
    assert _key(variant=renamed) == _key()


@given(filled(Variant))
def test_a_build_key_survives_being_written_and_read(variant: Record) -> None:
    assert isinstance(variant, Variant)
    try:
        expected = _key(variant=variant)
    except ValueError:  # infinity among the options
        return
    assert _key(variant=Variant.from_json(json.loads(json.dumps(variant.to_json())))) == expected


# ---- a trial -------------------------------------------------------------------------------------------------

nats = st.floats(0, 10)
trials = st.builds(ImatrixTrial, without_kl=nats, without_error=nats, with_kl=nats, with_error=nats)


@given(trials)
def test_a_gain_is_more_than_two_standard_errors_of_the_difference(trial: ImatrixTrial) -> None:
    gain, error = trial.without_kl - trial.with_kl, (trial.without_error**2 + trial.with_error**2) ** 0.5
    if gain > 2.0001 * error + 1e-9:
        assert trial.gains
    if gain < 1.9999 * error - 1e-9:
        assert not trial.gains


@given(trials)
def test_no_two_builds_gain_on_each_other(trial: ImatrixTrial) -> None:
    other = ImatrixTrial(
        without_kl=trial.with_kl,
        without_error=trial.with_error,
        with_kl=trial.without_kl,
        with_error=trial.without_error,
    )
    assert not (trial.gains and other.gains)
    assert not dataclasses.replace(trial, with_kl=trial.without_kl).gains


@given(trials, nats)
def test_a_gain_stays_one_where_less_is_unsure_or_more_is_gained(trial: ImatrixTrial, less: float) -> None:
    if trial.gains:
        assert dataclasses.replace(trial, without_error=min(less, trial.without_error)).gains
        assert dataclasses.replace(trial, with_error=min(less, trial.with_error)).gains
        assert dataclasses.replace(trial, with_kl=min(less, trial.with_kl)).gains


@given(st.sampled_from(["without_kl", "without_error", "with_kl", "with_error"]), trials)
def test_figures_that_are_not_numbers_are_not_a_gain(name: str, trial: ImatrixTrial) -> None:
    assert not dataclasses.replace(trial, **{name: float("nan")}).gains


def test_a_record_from_before_there_were_trials_is_read() -> None:
    older = dict(GGUF.builds[0].build.to_json())
    del older["imatrix_trial"]
    assert BuildRecord.from_json(older) == GGUF.builds[0].build


# ---- what is content -----------------------------------------------------------------------------------------


def _file(path: str, digest: str = "1" * 40) -> SourceFile:
    return SourceFile(path=path, size=1, digest=f"git:{digest}")


def test_only_weights_config_and_tokenizer_at_the_top_are_content() -> None:
    content = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "config.json", "tokenizer.model"]
    other = [
        "README.md",
        "LICENSE",
        "onnx/model.safetensors",
        "pytorch_model.bin",
        "configuration_phi3.py",
        "x/config.json",
    ]
    assert [p for p in [*content, *other] if is_content(p)] == content


def test_a_new_readme_is_not_a_new_release_but_new_weights_are() -> None:
    files = (_file("config.json"), _file("model.safetensors"), _file("README.md"))
    again = (_file("README.md", "2" * 40), _file("model.safetensors"), _file("config.json"))
    assert content_digest(files) == content_digest(again)
    assert content_digest(files) != content_digest((_file("config.json"), _file("model.safetensors", "2" * 40)))
    assert content_digest(files) != content_digest((*files, _file("vocab.json")))


# ---- what records say of themselves --------------------------------------------------------------------------


def test_names_and_labels() -> None:
    release = Release(
        repo_id="microsoft/Phi-4",
        commit="0123456789abcdef" * 2 + "01234567",
        content_digest=DIGEST,
        files=(SourceFile(path="a.safetensors", size=5, digest="sha256:" + DIGEST), _file("README.md")),
        config={},
    )
    assert (release.name, release.label, release.weight_bytes) == ("Phi-4", "microsoft/Phi-4@0123456789ab", 5)
    assert dataclasses.replace(release, repo_id="local/x", commit=None).label == "local/x"
    assert (VARIANT.format, VARIANT.short_name) == ("gguf", "q4_k_m")


def _evidence(**changes: Any) -> Evidence:
    def distance(side: typing.Literal["short", "long"], kl: float, setting: str = "") -> Distance:
        figures = Figures(mean_kl=kl, p99_kl=kl, max_kl=kl, top1_agreement=1.0, perplexity_ratio=1.0)
        return Distance(
            side=side, tokens=1, figures=figures, standard_errors=figures, by_kind={"prose": kl}, setting=setting
        )

    given: dict[str, Any] = {
        "version": evidence.EVIDENCE_VERSION,
        "build_key": DIGEST,
        "runtime": "r 1",
        "machine": "m",
        "checks": (Check(name="a", passed=True, detail=""),),
        "distances": (distance("short", 0.01), distance("long", 0.5), distance("short", 0.9, "another setting")),
        "stretches": (),
        "rounding": None,
        "own_weights": None,
        "cost": None,
        "gate": 0.2,
        "known_behaviours": (),
        "read_differently": (),
        "generations": (),
        "seconds": 1.0,
        "reference_digest": "",
    }
    return Evidence(**given | changes)


def test_files_are_compared_by_their_distance_on_short_texts_unless_no_gate_applies_there() -> None:
    known = {s: KnownBehaviour(name="n", side=s, reference="u") for s in ("long", "short")}
    assert _compared() == 0.01
    assert _compared(known["long"]) == 0.01
    assert _compared(known["short"]) == 0.5
    assert _compared(*known.values()) is None
    assert _compared(dataclasses.replace(known["short"], setting="another setting")) == 0.01


def _compared(*known: KnownBehaviour) -> float | None:
    found = _evidence(known_behaviours=known).compared
    return found.figures.mean_kl if found else None


def _cost(kl: float, plain: float = 0.1) -> RoundingCost:
    return RoundingCost(
        tokens=140,
        mean_kl=kl,
        error=kl / 10,
        plain_kl=plain,
        plain_error=plain / 10,
        ratio_error=0.1,
    )


def _judged(times: float, **changes: Any) -> dict[str, Check]:
    return {c.name: c for c in judge(_evidence(**changes), times).checks}


def test_a_policy_is_a_multiple_of_plain_rounding() -> None:
    assert judge(_evidence(rounding=_cost(0.14)), 1.5).gate == pytest.approx(0.15, abs=1e-5)
    assert _judged(1.5, rounding=_cost(0.0, plain=0.0))[COST].passed
    assert _judged(1.5, rounding=_cost(0.14))[COST].passed
    assert not _judged(1.3, rounding=_cost(0.14))[COST].passed
    assert not _judged(1.5, rounding=_cost(0.16))[COST].passed


def test_what_the_arithmetic_of_a_runtime_costs_is_allowed_on_top() -> None:
    assert not _judged(1.5, rounding=_cost(0.16))[COST].passed
    own = OwnWeights(tokens=256, mean_kl=0.01, rounding_kl=0.01)
    assert _judged(1.5, rounding=_cost(0.16), own_weights=own)[COST].passed
    assert _judged(1.5, rounding=_cost(0.01, plain=0.0), own_weights=own)[COST].passed


def test_a_file_over_the_policy_is_no_fault_where_nothing_else_is_wrong() -> None:
    wrong = (Check(name="weights", passed=False, detail="one row is another"),)
    said = "a faithful conversion, but of poor quality for its bits"
    assert said in _judged(1.5, rounding=_cost(0.2))[COST].detail
    assert said not in _judged(1.5, rounding=_cost(0.1))[COST].detail
    assert said not in _judged(1.5, rounding=_cost(0.2), checks=wrong)[COST].detail


def test_a_policy_takes_the_place_of_the_one_before() -> None:
    once = judge(_evidence(rounding=_cost(0.14)), 1.0)
    again = judge(once, 1.5)
    assert [c.name for c in again.checks] == [c.name for c in once.checks]
    assert not once.passed
    assert again.passed


def test_a_known_behaviour_on_short_texts_is_not_held_against_the_cost_of_rounding() -> None:
    known = (KnownBehaviour(name="long factors everywhere", side="short", reference="u"),)
    found = _judged(1.5, rounding=_cost(9.0), known_behaviours=known)
    assert found[COST].passed
    assert "long factors everywhere (u)" in found[COST].detail


def test_a_side_far_behind_the_beginnings_of_windows_is_a_fault() -> None:
    assert _judged(1.5, rounding=_cost(0.13))["distance, long windows"].passed  # 0.5 nats there: less than 4 times
    found = _judged(1.5, rounding=_cost(0.1))
    assert not found["distance, long windows"].passed
    assert found["distance, short windows"].passed


def test_evidence_without_checks_proves_nothing() -> None:
    failed = Check(name="b", passed=False, detail="")
    assert _evidence().passed
    assert not _evidence(checks=()).passed
    assert not _evidence(checks=(*_evidence().checks, failed)).passed
