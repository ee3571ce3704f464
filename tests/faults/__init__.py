"""Every call of a whole run, broken in every way, between the real client and the embedded Hub."""
