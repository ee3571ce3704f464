"""Compare: what a pull request changes, measured on both of its sides.

The base is the code that is there, the head what is proposed. The head may be a stranger's: it runs in child processes
without tokens (child.py), and what it says is read strictly, bounded, and escaped wherever it is shown.
"""
