"""What the bot costs where it has much to look after, measured on the embedded Hub. See benchmarks/README.md."""
