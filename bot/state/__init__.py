"""The bot's state between runs, where it is kept, and how attempts are counted."""
