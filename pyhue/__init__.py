"""pyhue: exact nearest-neighbour retrieval of CNN activations, and the activation hue loss."""

__version__ = "0.1.0"
