"""The costs of builds: measured, fitted and written down for bot/estimates."""
