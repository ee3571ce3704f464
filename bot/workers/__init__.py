"""What runs inside a toolchain. Nothing else of the bot imports these modules, and they import only ``bot.records``."""
