"""Code that runs inside a toolchain. Nothing else of the bot imports these modules.

They import ``bot.records.artifacts``, ``bot.records.tasks`` and ``bot.texts`` (the standard library alone), and
their own toolchain.
"""
