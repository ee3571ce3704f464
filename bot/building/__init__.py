"""The foundations of building: the release at hand, its reference, its importance matrix."""
