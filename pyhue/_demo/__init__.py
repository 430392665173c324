"""`pyhue demo`: handwritten digits, from training to a picture."""
