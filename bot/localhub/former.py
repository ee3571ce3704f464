"""Former names of repos that were moved: each leads to where its repo is now, one small file a name."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bot.localhub.durable import Scratch, read_json, sync_folder
from bot.localhub.repo import LocalRepo


@dataclass(frozen=True, kw_only=True)
class FormerNames:
    """The former names under one folder. Whoever changes them holds the lock under which repos get their names."""

    folder: Path
    scratch: Scratch

    def leads_to(self, repo_type: str, namespace: str, name: str) -> str | None:
        """Return the id of the repo that once had this name, in any case, or None."""
        try:
            return str(read_json(self._file(repo_type, f"{namespace}/{name}")))
        except FileNotFoundError:
            return None

    def remember(self, old: LocalRepo, new: LocalRepo) -> None:
        """Let a name lead to another, and all names that led to the one lead to the other."""
        leading = list(self._leading_to(old))
        for file in (*leading, self._file(old.type, old.id)):
            if file != self._file(new.type, new.id):
                self.scratch.write_json(file, new.id)

    def forget(self, repo: LocalRepo) -> None:
        """Let a name lead nowhere: a repo has it."""
        self._remove([self._file(repo.type, repo.id)])

    def forget_all(self, repo: LocalRepo) -> None:
        """Let nothing lead to a repo, which is about to go."""
        self._remove(list(self._leading_to(repo)))

    def _leading_to(self, repo: LocalRepo) -> Iterator[Path]:
        for file in sorted(self.folder.glob(f"{repo.type}--*.json")):
            if str(read_json(file)).lower() == repo.id.lower():
                yield file

    def _remove(self, files: list[Path]) -> None:
        for file in files:
            file.unlink(missing_ok=True)
        if files and self.folder.is_dir():
            sync_folder(self.folder)

    def _file(self, repo_type: str, repo_id: str) -> Path:
        return self.folder / f"{repo_type}--{repo_id.replace('/', '--').lower()}.json"  # no name holds '--'
