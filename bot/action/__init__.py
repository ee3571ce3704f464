"""The logic of the GitHub Action: inputs to a command line of the bot, and what came of it to outputs.

``install.py`` makes the environment that the rest runs in. action.yml holds no logic but the order of its steps.
"""
