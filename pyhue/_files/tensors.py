"""safetensors files beyond what the package offers: headers for files that are written piece by piece."""

from __future__ import annotations

import json
import math
from typing import Any


def safetensors_header(metadata: dict[str, str], arrays: dict[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """What a safetensors file begins with: the length of a JSON object, and the object.

    Args:
        metadata: texts to keep.
        arrays: dtype, in safetensors' words, and shape of each array, in the order of the data.
    """
    content: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, (dtype, shape) in arrays.items():
        begin, end = end, end + math.prod(shape) * int(dtype[1:]) // 8
        content[name] = {"dtype": dtype, "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 8)  # data begins at a multiple of 8
    return len(text).to_bytes(8, "little") + text
