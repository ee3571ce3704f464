"""``python -m bot.cli`` is ``phi-bot``."""

from bot.cli import main

main()
