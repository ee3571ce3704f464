"""The costs of builds of real sizes, by the tools themselves and by phi-bot: ``make bench``."""
