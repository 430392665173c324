"""Files of any content: written whole or not at all, resumable, as tensors, as tables."""
