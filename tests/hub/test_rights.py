"""What a token may do, as the Hub says it of the account."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import TokenError
from bot.hub import client
from bot.hub.rights import RUN_JOBS, objection, only_reads, permissions
from bot.localhub import RunningHub
from bot.localhub.tokens import Grant


def account(role: str, *, orgs: dict[str, str] | None = None, **token: Any) -> dict[str, Any]:
    """What the real Hub answers, without what nobody looks at."""
    named = [{"type": "org", "name": name, "roleInOrg": found} for name, found in (orgs or {}).items()]
    access = {"displayName": "bot", "role": role, **token}
    return {"type": "user", "name": "me", "orgs": named, "auth": {"type": "access_token", "accessToken": access}}


def fine_grained(*scoped: tuple[str, str | None, list[str]]) -> dict[str, Any]:
    entries = [
        {"entity": {"_id": "6", "type": kind} | ({"name": name} if name else {}), "permissions": allowed}
        for kind, name, allowed in scoped
    ]
    found = {"canReadGatedRepos": True, "global": ["discussion.write"], "scoped": entries}
    return account("fineGrained", orgs={"org": "write"}, fineGrained=found)


MAY = [
    (account("write"), "me"),
    (account("write"), "Me"),
    (account("write", orgs={"org": "admin"}), "org"),
    (account("write", orgs={"org": "contributor"}), "ORG"),
    (fine_grained(("user", "me", ["repo.write"])), "me"),
    (fine_grained(("org", "org", ["repo.content.read", "repo.write"])), "org"),
    (fine_grained(("model", "org/Phi-GGUF", ["repo.write"])), "org"),
    (fine_grained(("model", None, ["repo.write"])), "org"),
    ({"name": "me"}, "anybody"),  # an older Hub says no more
]
MAY_NOT = [
    (account("read", orgs={"org": "admin"}), "me", "may only read"),
    (account("write", orgs={"org": "read"}), "org", "may only read in org"),
    (account("write", orgs={"other": "admin"}), "org", "is not in org"),
    (fine_grained(("user", "me", ["repo.content.read"])), "me", "no permission repo.write in me"),
    (fine_grained(("user", "me", ["repo.write"])), "org", "no permission repo.write in org"),
    (fine_grained(("model", "org/Phi-other", ["repo.write"])), "org", "no permission repo.write in org"),
    (fine_grained(("dataset", "org/Phi-GGUF", ["repo.write"])), "org", "no permission repo.write in org"),
    (fine_grained(), "me", "no permission repo.write in me"),
]


@pytest.mark.parametrize(("said", "namespace"), MAY)
def test_rights_that_may_suffice_are_let_through(said: dict[str, Any], namespace: str) -> None:
    assert objection(said, namespace, repos=("org/Phi-GGUF",)) is None


@pytest.mark.parametrize(("said", "namespace", "words"), MAY_NOT)
def test_rights_that_surely_do_not_suffice_are_an_objection(said: dict[str, Any], namespace: str, words: str) -> None:
    assert words in str(objection(said, namespace, repos=("org/Phi-GGUF",)))


def test_jobs_are_a_permission_of_their_own() -> None:
    writes = fine_grained(("org", "org", ["repo.write"]))
    assert "no permission job.write in org" in str(objection(writes, "org", permission=RUN_JOBS))
    assert objection(fine_grained(("org", "org", ["job.write"])), "org", permission=RUN_JOBS) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "orgs", "auth", "accessToken", "role", "fineGrained", "scoped", "entity", "type"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["name", "orgs", "auth"]), json_values))
def test_any_answer_at_all_is_judged(said: dict[str, Any]) -> None:
    assert objection(said, "me") is None or isinstance(objection(said, "me"), str)
    assert only_reads(said) is None or isinstance(only_reads(said), str)


def test_of_an_embedded_hub(hub: RunningHub) -> None:
    """Each token as it is judged, and as the Hub itself then takes or refuses what it was judged for."""
    everywhere, here = ("me/Phi-GGUF", "org/Phi-GGUF"), ("me/Phi-GGUF",)
    grants = {
        "all": (Grant(name="a", scope="write", namespaces=("*",)), set()),
        "me": (Grant(name="me", scope="write", namespaces=("me",)), {"org/Phi-GGUF"}),
        "org": (Grant(name="b", scope="write", namespaces=("org",)), {"me/Phi-GGUF"}),
        "one": (Grant(name="me", scope="write", namespaces=here), {"org/Phi-GGUF"}),
    }
    for name, (grant, refused) in grants.items():
        made = client.connect(hub.url, hub.hub.tokens.make_for(grant))
        assert set(made.unwritable(everywhere)) == refused, name
    reading = client.connect(hub.url, hub.hub.tokens.make_for(Grant(name="me", scope="read", namespaces=("me",))))
    for wrong in (reading, client.connect(hub.url, "hub_wrong")):
        with pytest.raises(TokenError):
            wrong.unwritable(everywhere)
        with pytest.raises(TokenError):
            wrong.check_rights()
        with pytest.raises(TokenError):
            wrong.check_jobs("me")


def test_a_fine_grained_token_tells_what_it_may_do_in_a_namespace_and_everywhere() -> None:
    found = fine_grained(
        ("user", "Me", ["repo.content.read", "repo.write"]),
        ("org", "org", ["job.write"]),
        ("model", "me/one", ["repo.write"]),
    )
    assert permissions(found, "me") == ("repo.content.read", "repo.write", "discussion.write")
    assert permissions(account("write"), "me") == ()
