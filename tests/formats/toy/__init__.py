"""A made-up format: test_fifth.py puts it into a copy of the tree, as bot/formats/toy."""
