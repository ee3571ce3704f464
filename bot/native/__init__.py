"""Sources in C that a toolchain compiles for itself when it is installed; no code of the bot imports them."""
