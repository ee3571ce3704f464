"""Children with limits of time, memory and output, for what strangers wrote."""
