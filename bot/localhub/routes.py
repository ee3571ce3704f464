"""Every address of the embedded Hub."""

from dataclasses import replace

from bot.localhub import (
    api_collections,
    api_commit,
    api_discussions,
    api_files,
    api_gates,
    api_jobs,
    api_lfs,
    api_lfs_files,
    api_refs,
    api_repos,
    api_schedules,
    api_trust,
    api_webhooks,
    pages,
)
from bot.localhub.access import refuse_bare_name
from bot.localhub.refused import RefusedError
from bot.localhub.web import Handler, Response, Route, json_response

_ID = "/{namespace}/{name}"
_REPO = f"/api/{{types}}{_ID}"
_LFS = ".git/info/lfs"
_JOB = "/api/jobs/{namespace}/{job_id}"
_SCHEDULE = "/api/scheduled-jobs/{namespace}/{schedule_id}"
_WEBHOOKS = "/api/settings/webhooks"
_COLLECTION = "/api/collections/{namespace}/{slug}"
_LONGEST = 500  # characters of a message in a header; the body has all of it


def _both(method: str, tail: str, handler: Handler) -> tuple[Route, Route]:
    """The Hub's addresses for people have no word for models, and one for datasets."""
    return (
        Route(
            method=method,
            pattern=f"/datasets/{{namespace}}/{{name}}{tail}",
            handler=handler,
            fixed={"types": "datasets"},
        ),
        Route(method=method, pattern=f"/{{namespace}}/{{name}}{tail}", handler=handler, fixed={"types": "models"}),
    )


def _one(method: str, pattern: str, handler: Handler) -> Route:
    return Route(method=method, pattern=pattern, handler=handler)


_ROUTES: tuple[Route, ...] = (
    _one("GET", "/api/whoami-v2", api_repos.whoami),
    _one("POST", "/oauth/token", api_trust.exchange),
    _one("POST", "/api/validate-yaml", api_repos.validate_yaml),
    _one("POST", "/api/repos/create", api_repos.create_repo),
    _one("DELETE", "/api/repos/delete", api_repos.delete_repo),
    _one("POST", "/api/repos/move", api_repos.move_repo),
    _one("GET", "/api/jobs/hardware", api_jobs.hardware),
    _one("GET", "/api/jobs/{namespace}", api_jobs.list_jobs),
    _one("POST", "/api/jobs/{namespace}", api_jobs.run),
    _one("GET", _JOB, api_jobs.inspect),
    _one("GET", f"{_JOB}/logs", api_jobs.logs),
    _one("POST", f"{_JOB}/cancel", api_jobs.cancel),
    _one("POST", f"{_JOB}/duplicate", api_jobs.duplicate),
    _one("PUT", f"{_JOB}/labels", api_jobs.relabel),
    _one("GET", "/api/scheduled-jobs/{namespace}", api_schedules.list_schedules),
    _one("POST", "/api/scheduled-jobs/{namespace}", api_schedules.create),
    _one("GET", _SCHEDULE, api_schedules.inspect),
    _one("DELETE", _SCHEDULE, api_schedules.delete),
    _one("POST", f"{_SCHEDULE}/suspend", api_schedules.suspend),
    _one("POST", f"{_SCHEDULE}/resume", api_schedules.resume),
    _one("POST", f"{_SCHEDULE}/schedule", api_schedules.reschedule),
    _one("POST", f"{_SCHEDULE}/run", api_schedules.run),
    _one("PUT", f"{_SCHEDULE}/labels", api_schedules.relabel),
    _one("GET", _WEBHOOKS, api_webhooks.list_webhooks),
    _one("POST", _WEBHOOKS, api_webhooks.create),
    _one("GET", f"{_WEBHOOKS}/{{webhook_id}}", api_webhooks.show),
    _one("POST", f"{_WEBHOOKS}/{{webhook_id}}", api_webhooks.update),
    _one("DELETE", f"{_WEBHOOKS}/{{webhook_id}}", api_webhooks.delete),
    _one("POST", f"{_WEBHOOKS}/{{webhook_id}}/enable", api_webhooks.enable),
    _one("POST", f"{_WEBHOOKS}/{{webhook_id}}/disable", api_webhooks.disable),
    _one("GET", "/api/collections", api_collections.list_collections),
    _one("POST", "/api/collections", api_collections.create),
    _one("GET", _COLLECTION, api_collections.show),
    _one("PATCH", _COLLECTION, api_collections.update),
    _one("DELETE", _COLLECTION, api_collections.delete),
    _one("POST", f"{_COLLECTION}/items", api_collections.add_item),
    _one("PATCH", f"{_COLLECTION}/items/{{item_id}}", api_collections.update_item),
    _one("DELETE", f"{_COLLECTION}/items/{{item_id}}", api_collections.delete_item),
    _one("GET", "/api/{types}", api_repos.list_repos),
    _one("GET", _REPO, api_repos.repo_info),
    _one("GET", f"{_REPO}/revision/{{revision}}", api_repos.repo_info),
    _one("PUT", f"{_REPO}/settings", api_repos.change_settings),
    _one("GET", f"{_REPO}/user-access-request/{{status}}", api_gates.list_requests),
    _one("POST", f"{_REPO}/user-access-request/handle", api_gates.handle),
    _one("POST", f"{_REPO}/user-access-request/grant", api_gates.grant),
    _one("GET", f"{_REPO}/trusted-publishers", api_trust.list_publishers),
    _one("PUT", f"{_REPO}/trusted-publishers", api_trust.set_publishers),
    _one("GET", f"{_REPO}/auth-check", api_repos.auth_check),
    _one("GET", f"{_REPO}/auth-check/write", api_repos.auth_check_write),
    _one("GET", f"{_REPO}/refs", api_refs.list_refs),
    _one("POST", f"{_REPO}/branch/{{branch}}", api_refs.create_branch),
    _one("DELETE", f"{_REPO}/branch/{{branch}}", api_refs.delete_branch),
    _one("POST", f"{_REPO}/tag/{{revision}}", api_refs.create_tag),
    _one("DELETE", f"{_REPO}/tag/{{revision}}", api_refs.delete_tag),
    _one("GET", f"{_REPO}/commits/{{revision}}", api_refs.list_commits),
    _one("POST", f"{_REPO}/super-squash/{{branch}}", api_refs.squash),
    _one("GET", f"{_REPO}/tree/{{revision}}/{{path*}}", api_files.list_tree),
    _one("POST", f"{_REPO}/paths-info/{{revision}}", api_files.paths_info),
    _one("POST", f"{_REPO}/preupload/{{revision}}", api_files.preupload),
    _one("POST", f"{_REPO}/commit/{{revision}}", api_commit.commit),
    _one("GET", f"{_REPO}/lfs-files", api_lfs_files.list_files),
    _one("POST", f"{_REPO}/lfs-files/batch", api_lfs_files.delete),
    _one("POST", f"{_REPO}/lfs-files/duplicate", api_lfs.duplicate),
    _one("GET", f"{_REPO}/xet-write-token/{{revision}}", api_lfs.no_xet),
    _one("GET", f"{_REPO}/discussions", api_discussions.list_discussions),
    _one("POST", f"{_REPO}/discussions", api_discussions.create_discussion),
    _one("GET", f"{_REPO}/discussions/{{number}}", api_discussions.show_discussion),
    _one("POST", f"{_REPO}/discussions/{{number}}/comment", api_discussions.comment),
    _one("POST", f"{_REPO}/discussions/{{number}}/comment/{{comment_id}}/edit", api_discussions.edit_comment),
    _one("POST", f"{_REPO}/discussions/{{number}}/comment/{{comment_id}}/hide", api_discussions.hide_comment),
    _one("POST", f"{_REPO}/discussions/{{number}}/title", api_discussions.rename),
    _one("POST", f"{_REPO}/discussions/{{number}}/status", api_discussions.change_status),
    _one("POST", f"{_REPO}/discussions/{{number}}/merge", api_discussions.merge),
    _one("PUT", "/_lfs/upload", api_lfs.upload),
    _one("PUT", "/_lfs/part", api_lfs.upload_part),
    _one("POST", "/_lfs/complete", api_lfs.complete),
    _one("GET", "/_lfs/download", api_files.download),
    *_both("POST", f"{_LFS}/objects/batch", api_lfs.batch),
    *_both("POST", f"{_LFS}/verify", api_lfs.verify),
    *_both("GET", "/resolve/{revision}/{path*}", api_files.resolve),
    _one("GET", "/static/{name}", pages.static),
    *_both("GET", "", pages.card),
    *_both("GET", "/tree/{revision}/{path*}", pages.files),
    *_both("GET", "/blob/{revision}/{path*}", pages.file),
    *_both("GET", "/commits/{revision}", pages.history),
    *_both("GET", "/commit/{commit}", pages.commit),
    *_both("GET", "/discussions", pages.talk),
    *_both("GET", "/discussions/{number}", pages.discussion),
    Route(method="GET", pattern="/", handler=pages.index, fixed={"types": "models"}),
    Route(method="GET", pattern="/models", handler=pages.index, fixed={"types": "models"}),
    Route(method="GET", pattern="/datasets", handler=pages.index, fixed={"types": "datasets"}),
    _one("GET", "/login", pages.login),
    _one("GET", "/{namespace}", pages.namespace),
)

_OF_ONE_SEGMENT = tuple(
    replace(r, pattern=r.pattern.replace(_ID, "/{name}"), handler=refuse_bare_name) for r in _ROUTES if _ID in r.pattern
)

ROUTES = (*_ROUTES, *_OF_ONE_SEGMENT)


def error_response(error: RefusedError, *, wants_page: bool) -> Response:
    """Return an error as the client reads it, or as a page for a person."""
    if wants_page:
        return pages.error_page(error)
    headers = {"X-Error-Message": error.message[:_LONGEST], **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    if error.commit:
        headers["X-Repo-Commit"] = error.commit
    found = {"error": error.message} | ({"url": error.url} if error.url else {})
    return json_response(found, status=error.status, headers=headers)
