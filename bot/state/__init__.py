"""What the bot remembers between runs, where that is kept, and how attempts are counted."""
