"""The operating system: this machine, its memory, disks, locks, and child processes that end with us."""
