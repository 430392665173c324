"""What a memory and its plan look like on disk."""
