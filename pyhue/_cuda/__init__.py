"""Exact search on a GPU: pieces of stored vectors, their operators, and who searches them."""
