"""What builds of real sizes take, by the tools themselves and by phi-bot: ``make bench``."""
