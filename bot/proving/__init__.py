"""Proving: jobs built, and what was built verified against the original; several at once where they share a stream."""
