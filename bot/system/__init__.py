"""What the operating system says and gives: this machine, its memory, disks, locks, and what dies with us."""
