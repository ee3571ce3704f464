"""The formats: one folder each, all behind one small Protocol (registry.py)."""
