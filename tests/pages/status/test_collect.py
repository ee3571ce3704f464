"""What the page says of each variant, from what the bot knows."""

from dataclasses import replace

from bot.pages.status.collect import BotSnapshot, collect, unread
from bot.pages.status.records import STATES, Entry, Status
from bot.records.plans import Plan
from tests.pages.cards import examples as cards
from tests.pages.status import examples
from tests.pages.status.examples import HUB, NOW, known, release


def status(what: BotSnapshot, *, private: bool = False) -> Status:
    return collect(what, hub=HUB, namespace="someone", now=NOW, private=private)


def entry(found: Status, model: str, variant: str) -> Entry:
    (of_model,) = (m for m in found.models if m.name == model)
    (one,) = (e for e in of_model.entries if e.variant == variant)
    return one


def test_publications_come_with_their_figures() -> None:
    found = status(known())
    assert entry(found, "Phi-3.5-mini-instruct", "gguf/q4_k_m") == Entry(
        variant="gguf/q4_k_m", state="published", repo_id="someone/Phi-3.5-mini-instruct-GGUF", published=True
    )
    (shelf,) = (s for s in found.shelves if s.repo_id == "someone/Phi-3.5-mini-instruct-4bit")
    (made,) = shelf.made
    assert (made.variant, made.size, made.checks) == ("mlx/4bit", 2_153_624_000, 4)
    sides = [(q.side, q.mean_kl, q.gated) for q in made.quality]
    assert sides == [("short", 0.0653, False), ("long", 0.0402, True)]
    assert made.compared is not None
    assert made.compared.side == "long", "the gate leaves the other one out"


def test_every_state_has_its_reason() -> None:
    found = status(known())
    old = entry(found, "Phi-3-medium-128k-instruct", "gguf/q4_k_m")
    assert (old.state, old.published, old.text) == ("outdated", True, "outdated; built slowly")
    moved = entry(found, "Phi-3-mini-128k-instruct", "openvino/int4")
    assert (moved.state, moved.published) == ("changed", True)
    new = entry(found, "Phi-4-reasoning", "gguf/q6_k")
    assert (new.state, new.published) == ("planned", False)
    waits = entry(found, "Phi-4-mini-instruct", "mlx/4bit")
    assert (waits.state, waits.attempts, waits.next) == ("waiting", 1, "2026-12-01T15:30:00+00:00")
    stuck = entry(found, "Phi-4-mini-instruct", "onnx/cpu-int4")
    assert (stuck.state, stuck.attempts, stuck.next) == ("stuck", 3, None)
    assert "mean KL 0.31" in stuck.text
    assert entry(found, "Phi-3.5-MoE-instruct", "onnx/cpu-int4").state == "refused"
    failed = entry(found, "phi-4", "gguf/q6_k")
    assert (failed.state, failed.step, failed.hint[:7]) == ("failed", "plan", "Publish")
    assert {e.state for m in found.models for e in m.entries} == set(STATES)


def test_a_build_that_is_tried_again_in_the_next_run_still_shows_its_failure() -> None:
    what = known()
    (waits,) = (p for p in what.plan.postponed if p.planned.variant.name == "mlx/4bit")
    due = replace(what.plan, postponed=(), jobs=(examples.job(release("Phi-4-mini-instruct"), waits.planned),))
    again = entry(status(replace(what, plan=due)), "Phi-4-mini-instruct", "mlx/4bit")
    assert (again.state, again.attempts) == ("waiting", 1)


def test_a_published_file_stays_published_when_a_newer_build_of_it_is_refused() -> None:
    what = known()
    (refused,) = (f for f in what.plan.failures if f.exit_code == 21)
    mini = replace(refused, release=release("Phi-3.5-mini-instruct").label)
    plan = Plan(jobs=(), done=(), failures=(mini,))
    assert entry(status(replace(what, plan=plan)), "Phi-3.5-mini-instruct", "onnx/cpu-int4").state == "published"


def test_a_file_of_a_changed_model_that_nobody_asks_for_any_more_says_so() -> None:
    what = known()
    moved = [replace(s, content_digest="0" * 64) if s.name == "phi-4" else s for s in what.sightings]
    left = entry(status(replace(what, sightings=moved)), "phi-4", "gguf/q8_0")
    assert (left.state, left.published) == ("changed", True)
    assert "does not ask for this variant" in left.text


def test_a_model_that_cannot_be_used_says_why() -> None:
    (model,) = (m for m in status(known()).models if m.name == "Phi-4-multimodal-instruct")
    assert (model.problem, model.entries) == ("it asks for code from its repo to be run", ())


def test_nothing_private_is_on_a_public_page() -> None:
    found = status(known())
    assert "secret" not in str(found.to_json())
    assert found.hidden == 1
    seen = status(known(), private=True)
    assert entry(seen, "Phi-secret", "gguf/f16").published
    assert entry(seen, "Phi-secret", "mlx/4bit").state == "planned"


def test_nothing_gated_is_on_a_public_page() -> None:
    what = known()
    closed = [replace(s, gated=s.name == "phi-4") for s in what.sightings]
    assert "/phi-4-GGUF" not in str(status(replace(what, sightings=closed)).to_json())


def test_a_private_repo_of_a_public_model_is_not_named() -> None:
    what = known()
    hidden = [replace(s, private=s.repo_id.endswith("Phi-3-medium-128k-instruct-GGUF")) for s in what.shelved]
    assert "Phi-3-medium-128k-instruct-GGUF" not in str(status(replace(what, shelved=hidden)).to_json())


def test_only_changed_repos_are_read_again() -> None:
    what = known()
    before = status(what)
    public = [s for s in what.shelved if not s.private]
    assert unread(public, None) == [s.repo_id for s in public]
    assert unread(public, before) == []
    moved = replace(public[0], commit="f" * 40)
    assert unread([moved, *public[1:]], before) == [moved.repo_id]
    after = status(replace(what, records={}, previous=before))
    assert after == before


def test_a_repo_whose_record_could_not_be_read_is_read_again() -> None:
    what = known()
    name = "someone/phi-4-GGUF"
    lost = status(replace(what, records={k: v for k, v in what.records.items() if k != name}))
    assert entry(lost, "phi-4", "gguf/f16").published, "its card says so"
    assert unread([s for s in what.shelved if not s.private], lost) == [name]


def test_figures_of_a_build_that_was_replaced_are_not_shown() -> None:
    what = known()
    name = "someone/phi-4-4bit"
    rebuilt = [
        replace(s, builds={"mlx/4bit": cards.sha256("another")}) if s.repo_id == name else s for s in what.shelved
    ]
    (shelf,) = (s for s in status(replace(what, shelved=rebuilt)).shelves if s.repo_id == name)
    assert shelf.made == ()


def test_a_status_is_read_as_it_was_written() -> None:
    found = status(known())
    assert Status.from_json(found.to_json()) == found


def test_a_model_that_a_card_spells_in_other_capitals_is_the_same_one() -> None:
    what = known()
    shelved = [replace(s, source=_swapped(s.source)) for s in what.shelved]
    assert [s.source for s in shelved] != [s.source for s in what.shelved]
    for private in (False, True):
        assert status(replace(what, shelved=shelved), private=private) == status(what, private=private)


def _swapped(label: str) -> str:
    model, at, commit = label.partition("@")
    return f"{model.swapcase()}{at}{commit}"
