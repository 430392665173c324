"""docs/networks.md: which networks were compared, and what came out."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs/networks.md"

_HEAD = """\
# Networks that were checked

`--backbone torchvision:NAME` and `timm:NAME` take as feature maps what enters a network's own pooling. That
this is so was checked on the networks themselves, every classification network of torchvision and a small
one of each family of timm: with random weights, saved to a file and loaded as `--weights` does it, the
network's own pooling and classifier make of our feature maps the network's own logits. This page is written
by

```sh
make test-networks
```

with {versions}.

Compared are two random images; "error" is the largest difference to the network's own logits, as a part of
the largest of them: 0 where the same operations give the same bits. "Exchanged" is the same where each image
is given the maps of the other: without it, a classifier that pays no heed to the maps would pass. Weights
that a network begins with as zeros are made random before, and where random weights let both images fade to
one, batch normalisation takes the statistics of these images.

Some transformers classify by their class token alone. Marked "tokens", they have their maps compared with
their own last patch tokens instead of logits.
"""


class Row(NamedTuple):
    """What was found of one network."""

    family: str
    size: int  #: of images, in pixels
    maps: tuple[int, ...] = ()  #: channels, height, width
    error: float = 0
    exchanged: float = 0
    tokens: bool = False  #: patch tokens were compared instead of logits
    refused: str = ""  #: why there are no feature maps


def write_page(rows: Mapping[str, Row], packages: Mapping[str, ModuleType]) -> None:
    """Writes the page."""
    versions = ", ".join(f"{name} {package.__version__}" for name, package in packages.items())
    parts = [_HEAD.format(versions=f"{versions} and Python {platform.python_version()}")]
    for package in ("torchvision", "timm"):
        some = {name: row for name, row in rows.items() if name.startswith(f"{package}:")}
        parts.append(_section(package, some))
    PAGE.write_text("\n".join(parts), "utf-8")


def _section(package: str, rows: Mapping[str, Row]) -> str:
    refused = {name: row for name, row in rows.items() if row.refused}
    tokens = sum(row.tokens for row in rows.values())
    worst = max(row.error for row in rows.values())
    lines = [
        f"## {package}",
        "",
        f"{len(rows)} networks: {len(rows) - tokens - len(refused)} with their own logits and {tokens} with "
        f"their own patch tokens, up to {worst:.1g}; {len(refused)} refused.",
        "",
        "| network | family | image | maps | compared | error | exchanged |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        start = f"| `{name.partition(':')[2]}` | {row.family} | {row.size} |"
        if row.refused:
            lines.append(f"{start} | refused | | |")
            continue
        maps = " x ".join(f"{side:,}" for side in row.maps)
        what = "tokens" if row.tokens else "logits"
        lines.append(f"{start} {maps} | {what} | {row.error:.1g} | {row.exchanged:.1g} |")
    if refused:
        lines += ["", "Refused, and what is said then:", ""]
        lines += [f"- `{name}`: {row.refused}" for name, row in refused.items()]
    return "\n".join([*lines, ""])
