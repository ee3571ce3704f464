"""What builds take: measured, fitted and written down for bot/estimates."""
