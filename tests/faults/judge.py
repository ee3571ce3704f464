"""What a namespace holds after all that went wrong: at every commit of every repo, not at the last ones alone."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import yaml
from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

from bot.localhub import RunningHub
from bot.records.artifacts import Json, RepoRecord
from bot.state.memory import Memory
from tests.faults.bench import STATE, VARIANTS

_BEFORE = frozenset({".gitattributes", "README.md"})  # what a repo may hold without a record


@dataclass(kw_only=True)
class Verdict:
    """What is half-published, and what is published twice, in words."""

    half: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)


class Judge:
    """Looks at a Hub past the proxy."""

    def __init__(self, hub: RunningHub) -> None:
        self._api = HfApi(endpoint=hub.url, token=hub.token)
        self._sha256: dict[str, str] = {}  # by git blob, for files that are not LFS

    def look(self, namespace: str, repos: Sequence[str]) -> Verdict:
        """Judge the repos that a run leaves, and its memory."""
        verdict = Verdict()
        published = []
        for name in repos:
            published += self._history(f"{namespace}/{name}", verdict)
        if sorted(published) != sorted(VARIANTS):
            verdict.half.append(f"in the end {sorted(published)} are there")
        try:
            Memory.from_json(self._json(f"{namespace}/{STATE}", "main", "memory.json", "dataset"))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it
            verdict.half.append(f"the memory cannot be read: {error}")
        return verdict

    def _history(self, repo_id: str, verdict: Verdict) -> list[str]:
        """Judge a repo at each of its commits; return the variants that are in it at the end."""
        if not self._api.repo_exists(repo_id):
            return []
        before: dict[str, str] = {}
        added: list[str] = []
        for commit in reversed(self._api.list_repo_commits(repo_id)):
            found = self._builds(repo_id, commit.commit_id, verdict)
            added += [key for key in found.values() if key not in before.values()]
            if commit.title.startswith("Add ") and found == before:
                verdict.duplicated.append(f"{repo_id}@{commit.commit_id[:8]} adds nothing")
            before = found
        verdict.duplicated += [f"{repo_id} has {key[:8]} twice" for key in set(added) if added.count(key) > 1]
        return list(before)

    def _builds(self, repo_id: str, commit: str, verdict: Verdict) -> dict[str, str]:
        """Return the build keys in a repo at a commit by their variants, after comparing record, card and files."""
        where = f"{repo_id}@{commit[:8]}"
        tree = self._api.list_repo_tree(repo_id, recursive=True, revision=commit)
        files = {f.path: f for f in tree if isinstance(f, RepoFile)}
        if "phi-bot.json" not in files:
            if not files.keys() <= _BEFORE:
                verdict.half.append(f"{where} has files and no record")
            return {}
        record = RepoRecord.from_json(self._json(repo_id, commit, "phi-bot.json"))
        for proven in record.builds:
            for file in proven.build.files:
                path = "/".join(filter(None, (proven.build.path_in_repo, file.path)))
                if path not in files:
                    verdict.half.append(f"{where} lacks {path}")
                elif self._digest(repo_id, commit, files[path]) != file.sha256:
                    verdict.half.append(f"{where} has another {path} than its record says")
        builds = {b.build.variant.name: b.build.build_key for b in record.builds}
        if self._on_card(repo_id, commit) != builds:
            verdict.half.append(f"{where} has a card that does not fit its record")
        return builds

    def _on_card(self, repo_id: str, commit: str) -> Json:
        text = self._content(repo_id, commit, "README.md").decode()
        return yaml.safe_load(text.split("---")[1])["phi_bot"]["builds"]

    def _digest(self, repo_id: str, commit: str, file: RepoFile) -> str:
        if file.lfs:
            return file.lfs.sha256
        if file.blob_id not in self._sha256:
            content = self._content(repo_id, commit, file.path)
            self._sha256[file.blob_id] = hashlib.sha256(content).hexdigest()
        return self._sha256[file.blob_id]

    def _json(self, repo_id: str, commit: str, path: str, repo_type: str = "model") -> Json:
        return json.loads(self._content(repo_id, commit, path, repo_type))

    def _content(self, repo_id: str, commit: str, path: str, repo_type: str = "model") -> bytes:
        from huggingface_hub import get_session, hf_hub_url

        url = hf_hub_url(repo_id, path, revision=commit, repo_type=repo_type, endpoint=self._api.endpoint)
        answer = get_session().get(url, headers={"authorization": f"Bearer {self._api.token}"})
        answer.raise_for_status()
        return answer.content
