"""Publishing: due builds, permission, composing and checking a repo, and rights."""
