"""What building a release stands on: the release at hand, its reference, its importance matrix."""
