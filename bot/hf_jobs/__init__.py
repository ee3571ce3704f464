"""The steps on machines of Hugging Face Jobs."""
