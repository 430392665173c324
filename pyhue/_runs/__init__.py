"""What the folder of a training run holds: its options and its results."""
