"""Webhooks of the embedded Hub that start jobs, with the real client."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, JobInfo, WebhookInfo
from huggingface_hub.errors import HfHubHTTPError

from bot.localhub import Grant, RunningHub, serve
from tests.localhub.jobs_of import NAMESPACE, finish, logs, shell

MODEL = "microsoft/phi"
SCRIPT = 'echo "$WEBHOOK_REPO_TYPE $WEBHOOK_REPO_ID ${#HF_TOKEN} $WEBHOOK_SECRET"; echo "$WEBHOOK_PAYLOAD"'


@pytest.fixture
def hub(tmp_path: Path, unsynced: None) -> Iterator[RunningHub]:
    """An embedded Hub that runs jobs."""
    with serve(tmp_path / "hub", jobs=True) as running:
        yield running


@pytest.fixture
def source(api: HfApi) -> JobInfo:
    """The job that webhooks start again; it is the first one."""
    return finish(api, shell(api, SCRIPT))


def watch(api: HfApi, source: JobInfo, **more: object) -> WebhookInfo:
    given = {"watched": [{"type": "org", "name": "microsoft"}], "domains": ["repo"]} | more
    return api.create_webhook(job_id=source.id, **given)  # type: ignore[arg-type]


def write(api: HfApi, text: str, repo_id: str = MODEL) -> str:
    file = CommitOperationAdd(path_in_repo="config.json", path_or_fileobj=text.encode())
    return str(api.create_commit(repo_id, [file], commit_message="Change").oid)


def started(api: HfApi, source: JobInfo) -> list[JobInfo]:
    """Return the jobs that webhooks started, the oldest first."""
    return [j for j in api.list_jobs(namespace=NAMESPACE) if j.id != source.id][::-1]


def test_a_changed_repo_starts_the_job_and_describes_the_change(api: HfApi, source: JobInfo) -> None:
    api.create_repo(MODEL)
    made = watch(api, source, secrets={"HF_TOKEN": "12345"}, secret="word")
    before = api.model_info(MODEL).sha
    after = write(api, "{}")
    (job,) = started(api, source)
    first, payload = logs(api, job)
    assert first == f"model {MODEL} 5 word"
    told = json.loads(payload)
    assert told["event"] == {"action": "update", "scope": "repo.content"}
    assert told["repo"]["name"] == MODEL
    assert told["repo"]["headSha"] == after
    assert told["updatedRefs"] == [{"ref": "refs/heads/main", "oldSha": before, "newSha": after}]
    assert told["webhook"] == {"id": made.id, "version": 3}
    write(api, "{}")  # the same again changes nothing
    assert len(started(api, source)) == 1


def test_a_new_repo_starts_the_job_too(api: HfApi, source: JobInfo) -> None:
    watch(api, source)
    api.create_repo(MODEL)
    (job,) = started(api, source)
    assert json.loads(logs(api, job)[1])["event"] == {"action": "create", "scope": "repo"}


def test_a_merged_pull_request_starts_the_job(api: HfApi, source: JobInfo) -> None:
    api.create_repo(MODEL)
    watch(api, source)
    file = CommitOperationAdd(path_in_repo="a.txt", path_or_fileobj=b"a")
    opened = api.create_commit(MODEL, [file], commit_message="Add", create_pr=True)
    assert started(api, source) == []
    assert opened.pr_num is not None
    api.merge_pull_request(MODEL, opened.pr_num)
    assert len(started(api, source)) == 1


def test_other_repos_start_nothing(api: HfApi, source: JobInfo) -> None:
    watch(api, source, watched=[{"type": "model", "name": MODEL}])
    api.create_repo("microsoft/other")
    api.create_repo("someone/phi")
    write(api, "{}", "microsoft/other")
    assert started(api, source) == []


def test_a_repo_that_its_owner_may_not_see_starts_nothing(
    api: HfApi, client: Callable[[Grant], HfApi], hub: RunningHub
) -> None:
    owner = client(Grant(name=NAMESPACE, scope="write", namespaces=()))
    source = finish(owner, shell(owner, SCRIPT))
    watch(owner, source)
    api.create_repo(MODEL, private=True)
    write(api, "{}")
    assert started(api, source) == []
    api.create_repo("microsoft/open")
    assert len(started(api, source)) == 1


def test_it_is_listed_changed_switched_off_and_deleted(api: HfApi, source: JobInfo) -> None:
    made = watch(api, source)
    assert [w.id for w in api.list_webhooks()] == [made.id]
    changed = api.update_webhook(made.id, watched=[{"type": "user", "name": "someone"}])
    assert [(w.type, w.name) for w in changed.watched] == [("user", "someone")]
    assert api.get_webhook(made.id) == changed
    assert api.disable_webhook(made.id).disabled
    api.create_repo("someone/phi")
    assert started(api, source) == []
    assert not api.enable_webhook(made.id).disabled
    write(api, "{}", "someone/phi")
    assert len(started(api, source)) == 1
    api.delete_webhook(made.id)
    assert api.list_webhooks() == []


def test_secrets_are_neither_answered_nor_written(api: HfApi, source: JobInfo, hub: RunningHub) -> None:
    made = watch(api, source, secrets={"HF_TOKEN": "very-secret"}, secret="secret-word")
    assert "secret" not in repr(api.get_webhook(made.id)).replace("secrets=", "").replace("secret=None", "")
    for word in (b"very-secret", b"secret-word"):
        assert all(word not in p.read_bytes() for p in hub.hub.folder.rglob("*") if p.is_file())


def test_an_account_sees_its_own_alone(api: HfApi, source: JobInfo, client: Callable[[Grant], HfApi]) -> None:
    made = watch(api, source)
    stranger = client(Grant(name="stranger", scope="write", namespaces=()))
    assert stranger.list_webhooks() == []
    for attempt in (
        lambda: stranger.get_webhook(made.id),
        lambda: stranger.delete_webhook(made.id),
        lambda: watch(stranger, source),  # another one's job
    ):
        with pytest.raises(HfHubHTTPError) as raised:
            attempt()
        assert raised.value.response.status_code == 404


def test_it_sends_nothing_to_addresses(api: HfApi) -> None:
    with pytest.raises(HfHubHTTPError, match="send nothing"):
        api.create_webhook(url="http://127.0.0.1:1/", watched=[{"type": "org", "name": "microsoft"}])
