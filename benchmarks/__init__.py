"""The costs of the bot where it has much to look after, measured on the embedded Hub. See benchmarks/README.md."""
