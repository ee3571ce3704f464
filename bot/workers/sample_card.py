"""The sample's card and license: what a publisher's repo has beside the model."""

from pathlib import Path


def write(out: Path) -> None:
    (out / "LICENSE").write_text("MIT\n")
    (out / "README.md").write_text("---\nlicense: mit\n---\n")
