"""pyhue: exact nearest-neighbour retrieval of CNN activations, and the activation hue loss.

Retrieval works on NumPy arrays and torch CPU tensors and needs NumPy only; the loss is in `pyhue.nn`,
which needs torch.
"""

import logging

from pyhue._config import get_num_threads, set_num_threads, show_config
from pyhue._search.certificate import Certificate
from pyhue.density import density
from pyhue.hue import activation_hue
from pyhue.memory import PixelMemory
from pyhue.pixel_vectors import pixel_vectors
from pyhue.vector_memory import SearchResult, VectorMemory, WithinResult

__version__ = "0.1.0"

logging.getLogger("pyhue").addHandler(logging.NullHandler())  # what is logged is shown where someone asks

__all__ = [
    "Certificate",
    "PixelMemory",
    "SearchResult",
    "VectorMemory",
    "WithinResult",
    "activation_hue",
    "density",
    "get_num_threads",
    "pixel_vectors",
    "set_num_threads",
    "show_config",
]
