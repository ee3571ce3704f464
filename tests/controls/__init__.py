"""Negative controls: conversions with a fault put into them on purpose, to see that verifying finds each."""
