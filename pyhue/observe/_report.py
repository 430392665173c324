"""What `pyhue observe` does: compute the observations, write pictures, numbers and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyhue._figures import to_png
from pyhue._files.atomic import write_atomically
from pyhue.features import Features
from pyhue.observe import plots
from pyhue.observe._page import page
from pyhue.observe._summary import observations, summary


def write_report(features: Features, folder: Path, k: int) -> tuple[Path, dict[str, Any]]:
    """Writes `observe.html`, four PNG files and `observe.json` to `folder`; returns the path of the page.

    And the numbers. The same features and k give the same files, whether or not an earlier run was killed on
    the way.

    Raises:
        OSError: a file cannot be written; those written before stay.
    """
    found = observations(features, k, folder)
    numbers = summary(found, features.labels)
    pictures = {
        "energy": to_png(plots.plot_energy_maps(found.energy, features.classes)),
        "locations": to_png(plots.plot_match_locations(found.locations, features.classes)),
        "conditional": to_png(plots.plot_conditional_locations(found.conditional)),
        "hue": to_png(plots.plot_hue_histograms(found.hue, features.classes)),
    }
    for name, content in pictures.items():
        write_atomically(folder / f"{name}.png", content)
    write_atomically(folder / "observe.json", json.dumps(numbers, indent=2) + "\n")
    write_atomically(folder / "observe.html", page(features, found, numbers, pictures, k))
    return folder / "observe.html", numbers
