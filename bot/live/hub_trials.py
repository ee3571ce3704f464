"""The trials of calls to the Hub, in the order in which a release travels."""

from functools import partial

from bot.hub import scratch
from bot.live.hub_calls import LARGE_BYTES, PART_BYTES, HubCalls
from bot.live.trials import Trial


def trials(calls: HubCalls) -> list[Trial]:
    """Return all of them, in their order; removing what they made is not one of them."""
    return [*_reading(calls), *_writing(calls), *_moving(calls), *_beside(calls), *_publishers(calls)]


def removing(calls: HubCalls) -> Trial:
    """Return the trial that removes what the others made."""
    return Trial(
        name="remove scratch",
        expected="all that this run made is gone",
        action=calls.remove,
        without="private scratch repos stay in your namespace",
        uses=("delete_repo", "delete_collection"),
    )


def _reading(calls: HubCalls) -> list[Trial]:
    author = calls.config.watch.authors[0] if calls.config.watch.authors else ""
    trusted = calls.config.publish.trusted_publishers  # then publishing takes no stored token
    return [
        Trial(
            name="token",
            expected=f"an account that may write in {calls.namespace}",
            action=calls.whoami,
            without="scratch repos cannot be made" if trusted else "nothing can be published",
            uses=("whoami",),
            optional=trusted,
        ),
        Trial(
            name="pages of a list",
            expected="a page of 1 leads to the next one",
            action=partial(calls.page_through, author),
            without="the bot sees a part of a namespace alone",
        ),
        Trial(
            name="list of an author",
            expected=f"the models of {author or 'the first watched author'}",
            action=partial(calls.list_sources, author),
            without="no release is found",
            uses=("list_models",),
        ),
        Trial(
            name="read a model",
            expected="commit, files and config.json of one of them",
            action=calls.read_release,
            without="no release can be planned",
            uses=("model_info",),
            needs=("list of an author",),
        ),
        Trial(
            name="list of publications",
            expected=f"the repos of {calls.namespace}",
            action=calls.list_publications,
            without="the bot does not know what is published",
            uses=("list_models",),
        ),
        Trial(
            name="old scratch",
            expected="nothing is left of an earlier run",
            action=calls.look_for_leftovers,
            without="leftovers of a killed doctor are not found",
            uses=("list_datasets", "list_collections"),
            optional=True,
        ),
    ]


def _writing(calls: HubCalls) -> list[Trial]:
    made = ("make a repo",)
    filled = ("first commit",)
    large = ("upload a large file",)
    publishing = "nothing can be published"
    return [
        Trial(
            name="make a repo",
            expected="a private one",
            action=calls.make_repo,
            without=publishing,
            uses=("create_repo", "repo_info"),
            needs=("token",),
        ),
        Trial(
            name="first commit",
            expected="its files are in the list of the repo",
            action=calls.first_commit,
            without=publishing,
            uses=("create_commit", "list_repo_tree", "model_info", "preupload_lfs_files"),
            needs=made,
        ),
        Trial(
            name="upload a large file",
            expected=f"{LARGE_BYTES} bytes with their sha256, by Xet where the library has it",
            action=calls.upload,
            without="nothing can be published (by LFS it may work: HF_HUB_DISABLE_XET=1 in the environment)",
            uses=("preupload_lfs_files", "create_commit"),
            needs=filled,
        ),
        Trial(
            name="upload by LFS",
            expected="the same, past Xet",
            action=calls.upload_past_xet,
            without="nothing can be published where a network blocks Xet",
            uses=("preupload_lfs_files", "create_commit"),
            needs=filled,
            optional=True,
        ),
        Trial(
            name="download",
            expected="the bytes that were sent",
            action=calls.download,
            without="models, and what promoting copies by hand, cannot be read",
            uses=("list_repo_tree",),
            needs=large,
        ),
        Trial(
            name="download a part",
            expected=f"the first {PART_BYTES} bytes alone",
            action=calls.download_part,
            without="models that are larger than the disk cannot be read as a stream",
            needs=large,
        ),
        Trial(
            name="commit on a stale parent",
            expected="refused with status 412",
            action=calls.commit_on_stale_parent,
            without="two bots that publish at once could overwrite each other",
            uses=("create_commit",),
            needs=large,
        ),
    ]


def _moving(calls: HubCalls) -> list[Trial]:
    made = ("make a repo",)
    return [
        Trial(
            name="copy between repos",
            expected="the large file in a second repo, not uploaded again",
            action=calls.copy_between_repos,
            without="staged files cannot be promoted",
            uses=("get_paths_info", "create_repo", "create_commit"),
            needs=("upload a large file",),
        ),
        Trial(
            name="state",
            expected="a private dataset repo with a memory that reads back",
            action=calls.keep_state,
            without="the bot remembers nothing",
            uses=("dataset_info", "create_repo", "create_commit"),
            needs=("token",),
        ),
        Trial(
            name="branch",
            expected="made, listed, removed",
            action=partial(calls.make_ref, scratch.branch, "doctor"),
            without="builds cannot be kept on branches",
            uses=("create_branch", "list_repo_refs", "delete_branch"),
            needs=made,
            optional=True,
        ),
        Trial(
            name="tag",
            expected="set, listed, removed",
            action=partial(calls.make_ref, scratch.tag, "v0"),
            without="builds cannot be kept under tags",
            uses=("create_tag", "list_repo_refs", "delete_tag"),
            needs=made,
            optional=True,
        ),
        Trial(
            name="open a pull request",
            expected="found in the list, and its files under refs/pr/N",
            action=calls.propose,
            without="candidates of pull requests on GitHub cannot be tried",
            uses=("create_commit", "get_repo_discussions"),
            needs=("first commit",),
        ),
        Trial(
            name="merge a pull request",
            expected="its commit on main",
            action=calls.merge,
            without="candidates cannot be merged",
            uses=("get_discussion_details", "merge_pull_request"),
            needs=("open a pull request",),
        ),
        Trial(
            name="close a pull request",
            expected="another one, opened and closed",
            action=calls.close,
            without="candidates that nobody wants stay open",
            uses=("get_discussion_details", "change_discussion_status"),
            needs=("open a pull request",),
        ),
    ]


def _beside(calls: HubCalls) -> list[Trial]:
    on_jobs = "Hugging Face Jobs, schedules and webhooks cannot be used (nothing else needs them)"
    return [
        Trial(
            name="make a collection",
            expected="a private one",
            action=calls.make_collection,
            without="releases cannot have collections (this version makes none)",
            uses=("create_collection",),
            needs=("token",),
            optional=True,
        ),
        Trial(
            name="fill a collection",
            expected="a repo added, and taken out",
            action=calls.fill_collection,
            without="releases cannot have collections (this version makes none)",
            uses=("add_collection_item", "delete_collection_item", "get_collection"),
            needs=("make a collection", "make a repo"),
            optional=True,
        ),
        Trial(
            name="list jobs",
            expected="the jobs of phi-bot, and the machines that there are; none is started",
            action=calls.list_jobs,
            without=on_jobs,
            uses=("list_jobs", "list_jobs_hardware"),
            needs=("token",),
            optional=True,
        ),
        Trial(
            name="list schedules and webhooks",
            expected="those of phi-bot; none is made",
            action=calls.list_schedules,
            without=on_jobs,
            uses=("list_scheduled_jobs", "list_webhooks"),
            needs=("token",),
            optional=True,
        ),
    ]


def _publishers(calls: HubCalls) -> list[Trial]:
    """Return a trial for each repo that the bot always has; those of releases trust who these trust."""
    publish = calls.config.publish
    repos = (f"{calls.namespace}/{publish.staging}", f"datasets/{calls.namespace}/{publish.state}")
    return [
        Trial(
            name=f"Trusted Publisher of {repo}",
            expected="a token for this repo alone, which is not used",
            action=partial(calls.exchange, repo),
            without="this workflow can write there with a stored token alone",
            optional=not publish.trusted_publishers,
        )
        for repo in repos
    ]
