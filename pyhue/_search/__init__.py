"""Exact search on the CPU: stored vectors, how they are packed, and who searches them."""
