"""Collections through the Hub's own client."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from bot.localhub import Grant, RunningHub, serve
from tests.localhub.conftest import Ask

Client = Callable[[Grant], HfApi]

ME = Grant(name="me", scope="write", namespaces=())
READER = Grant(name="me", scope="read", namespaces=())
VISITOR = Grant(name="visitor", scope="write", namespaces=())


@pytest.fixture
def mine(client: Client) -> HfApi:
    """The client of an account with three repos, one of them private."""
    made = client(ME)
    made.create_repo("me/one")
    made.create_repo("me/two", private=True)
    made.create_repo("me/data", repo_type="dataset")
    return made


def items(api: HfApi, slug: str) -> list[tuple[str, str, int, str | None]]:
    return [(i.item_id, i.item_type, i.position, i.note) for i in api.get_collection(slug).items]


def test_a_collection_is_made_filled_and_deleted(mine: HfApi) -> None:
    made = mine.create_collection("Phi-4, in all formats", description="Proven.", private=True)
    assert made.slug.startswith("me/phi-4-in-all-formats-")
    assert (made.title, made.description, made.private, made.items) == (
        "Phi-4, in all formats", "Proven.", True, [],
    )  # fmt: skip
    mine.add_collection_item(made.slug, "me/one", "model", note="GGUF")
    mine.add_collection_item(made.slug, "me/data", "dataset")
    assert items(mine, made.slug) == [("me/one", "model", 0, "GGUF"), ("me/data", "dataset", 1, None)]
    last = mine.get_collection(made.slug).items[1].item_object_id
    mine.update_collection_item(made.slug, last, position=0, note="State")
    assert items(mine, made.slug) == [("me/data", "dataset", 0, "State"), ("me/one", "model", 1, "GGUF")]
    mine.delete_collection_item(made.slug, last)
    mine.delete_collection_item(made.slug, last, missing_ok=True)
    assert items(mine, made.slug) == [("me/one", "model", 0, "GGUF")]
    mine.delete_collection(made.slug)
    mine.delete_collection(made.slug, missing_ok=True)
    assert list(mine.list_collections(owner="me")) == []
    assert mine.repo_exists("me/one"), "the repos in it stay"


def test_one_title_is_one_collection(mine: HfApi) -> None:
    made = mine.create_collection("Phi-4")
    with pytest.raises(HfHubHTTPError, match="409"):
        mine.create_collection("Phi-4")
    assert mine.create_collection("Phi-4", exists_ok=True).slug == made.slug
    mine.add_collection_item(made.slug, "me/one", "model")
    with pytest.raises(HfHubHTTPError, match="409"):
        mine.add_collection_item(made.slug, "me/one", "model")
    mine.add_collection_item(made.slug, "me/one", "model", exists_ok=True)
    assert len(items(mine, made.slug)) == 1


def test_a_new_title_breaks_no_address(mine: HfApi) -> None:
    made = mine.create_collection("Phi-4")
    changed = mine.update_collection_metadata(made.slug, title="Phi-4, proven", private=True)
    assert changed.slug != made.slug
    assert mine.get_collection(made.slug).title == "Phi-4, proven"
    assert mine.get_collection(made.slug).private


def test_what_is_private_is_there_for_its_owner_alone(mine: HfApi, client: Client) -> None:
    visitor = client(VISITOR)
    hidden, shown = mine.create_collection("Hidden", private=True), mine.create_collection("Shown")
    mine.add_collection_item(shown.slug, "me/two", "model")
    mine.add_collection_item(shown.slug, "me/one", "model")
    assert [c.slug for c in visitor.list_collections(owner="me")] == [shown.slug]
    with pytest.raises(HfHubHTTPError, match="404"):
        visitor.get_collection(hidden.slug)
    assert items(visitor, shown.slug) == [("me/one", "model", 0, None)], "without the private repo"
    assert {c.slug for c in client(READER).list_collections(owner="me")} == {hidden.slug, shown.slug}


def test_only_its_owner_changes_it(mine: HfApi, client: Client) -> None:
    made = mine.create_collection("Phi-4")
    mine.add_collection_item(made.slug, "me/one", "model")
    item = mine.get_collection(made.slug).items[0].item_object_id
    for other in (client(VISITOR), client(READER)):
        refused: list[Callable[[], object]] = [
            lambda api=other: api.create_collection("Mine", namespace="me"),  # type: ignore[misc]
            lambda api=other: api.add_collection_item(made.slug, "me/data", "dataset"),  # type: ignore[misc]
            lambda api=other: api.delete_collection_item(made.slug, item),  # type: ignore[misc]
            lambda api=other: api.update_collection_metadata(made.slug, title="Other"),  # type: ignore[misc]
            lambda api=other: api.delete_collection(made.slug),  # type: ignore[misc]
        ]
        for call in refused:
            with pytest.raises(HfHubHTTPError, match="403"):
                call()
    assert items(mine, made.slug) == [("me/one", "model", 0, None)]


def test_a_list_shows_the_first_items_and_finds_by_them(mine: HfApi) -> None:
    for name in "abcdef":
        mine.create_repo(f"me/{name}")
    many, few = mine.create_collection("Many"), mine.create_collection("Few")
    for name in "abcdef":
        mine.add_collection_item(many.slug, f"me/{name}", "model")
    found = {c.slug: len(c.items) for c in mine.list_collections(owner="me")}
    assert found == {many.slug: 4, few.slug: 0}
    assert [c.slug for c in mine.list_collections(item="models/me/f")] == [many.slug]
    assert len(list(mine.list_collections(owner="me", limit=1))) == 1
    mine.delete_repo("me/a")
    assert [i[0] for i in items(mine, many.slug)] == [f"me/{name}" for name in "bcdef"], "what is gone is not shown"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{}", 400),
        (b'{"item": "me/one"}', 400),
        (b'{"item": {"id": "me/one", "type": "space"}}', 400),
        (b'{"item": {"id": "me/none", "type": "model"}}', 404),
        (b'{"item": {"id": "../../secret", "type": "model"}}', 404),
        (b'{"item": {"id": 7, "type": "model"}}', 400),
    ],
)
def test_what_is_no_repo_is_not_collected(mine: HfApi, hub: RunningHub, ask: Ask, body: bytes, status: int) -> None:
    slug = mine.create_collection("Phi-4").slug
    assert ask("POST", f"/api/collections/{slug}/items", body=body, token=hub.token).status == status
    assert items(mine, slug) == []


@pytest.mark.parametrize("slug", ["me/x", "me/x-" + "g" * 24, "me/..%2F..%2Ftoken", "me/x-" + "0" * 24])
def test_a_slug_that_is_none_leads_nowhere(hub: RunningHub, ask: Ask, slug: str) -> None:
    for method in ("GET", "DELETE"):
        assert ask(method, f"/api/collections/{slug}", token=hub.token).status == 404


def test_collections_are_there_after_a_restart(tmp_path: Path, unsynced: None) -> None:
    with serve(tmp_path / "kept") as first:
        slug = HfApi(endpoint=first.url, token=first.token).create_collection("Phi-4", namespace="me").slug
    with serve(tmp_path / "kept") as second:
        assert HfApi(endpoint=second.url, token=second.token).get_collection(slug).title == "Phi-4"
