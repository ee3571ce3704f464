"""Every call that the bot makes, tried on the live services, in private repos that are removed at the end."""
