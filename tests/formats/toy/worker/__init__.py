"""What runs inside its toolchain."""
