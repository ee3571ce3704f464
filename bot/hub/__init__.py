"""The Hugging Face Hub: the client of the real one, and the embedded one."""
