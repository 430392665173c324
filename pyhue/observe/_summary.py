"""The observations of one set of features, computed together, and the numbers that sum them up."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import positive_integer
from pyhue._files.reading import reading
from pyhue._files.resumable import ResumableFile
from pyhue._files.tensors import header_bytes, open_tensors
from pyhue._stderr import progress_bar
from pyhue._text import jsonable
from pyhue.features import Features
from pyhue.observe.circular import Directions, class_share
from pyhue.observe.conditional import ConditionalLocations, ConditionalMaps, conditional_locations
from pyhue.observe.energy import EnergyMaps, energy_maps
from pyhue.observe.hue_histogram import HueHistograms, hue_histograms
from pyhue.observe.locations import LocationMaps, MatchLocations, match_locations
from pyhue.observe.matches import Matches, match_batches

ALPHA = 0.05  # of all classes' tests together: each is compared with ALPHA / classes (Bonferroni)


class Observations(NamedTuple):
    """Everything that the report shows."""

    energy: EnergyMaps
    matches: Matches
    locations: MatchLocations
    conditional: ConditionalLocations
    hue: HueHistograms


def observations(features: Features, k: int, folder: Path) -> Observations:
    """Computes them; the search for matches, which takes minutes, goes on from what `folder` holds of it."""
    maps, labels = features.activations, features.labels
    size = (maps.shape[2], maps.shape[3])
    energy, hue = energy_maps(maps, labels), hue_histograms(maps, labels)
    matches = _kept_matches(features, k, folder / f"matches-k{k}.safetensors")
    return Observations(
        energy,
        matches,
        match_locations(matches, labels, size),
        conditional_locations(matches, labels, size),
        hue,
    )


def summary(found: Observations, labels: NDArray[np.int64]) -> dict[str, Any]:
    """The numbers of the report's text, JSON; NaN as None."""
    border = np.ones(found.energy.overall.shape, bool)
    border[1:-1, 1:-1] = False
    same = found.locations.same.counts.sum()
    total = same + found.locations.other.counts.sum()
    numbers = {
        "energy_centre": found.energy.profile[0],
        "energy_border": found.energy.overall[border].mean(),
        "same_class_matches": same / total if total else math.nan,
        "same": _locations(found.locations.same, labels) | _spread(found.conditional.same),
        "other": _locations(found.locations.other, labels) | _spread(found.conditional.other),
        "hue": _directions(found.hue.directions, found.hue.overall_directions)
        | _share(found.hue.image_vectors, labels),
    }
    plain: dict[str, Any] = jsonable(numbers)
    return plain


def _kept_matches(features: Features, k: int, path: Path) -> Matches:
    maps = features.activations
    source = {"features": features.source, "shape": maps.shape, "k": k}
    shape = (len(maps), 2, maps.shape[2] * maps.shape[3], positive_integer(k, "k"))
    row = 4 * math.prod(shape[1:])
    header = header_bytes(
        {"format": "pyhue.matches", "source": json.dumps(source)}, {"matches": ("I32", shape)}
    )
    file = ResumableFile(path, json.loads(json.dumps(source)), header, row * len(maps))
    first = file.done // row
    if first < len(maps):
        with progress_bar(desc="matches", total=len(maps), initial=first, unit="image") as bar:
            for _, part in match_batches(maps, k, first):
                file.append(part.tobytes())
                bar.update(len(part))
    file.finish()
    with reading(path, "the whole file of matches of these features; delete it to search again"):
        found = open_tensors(path).array("matches")
        places = shape[2]
        if found.dtype != np.int32 or found.shape != shape or found.min() < -1:
            raise ValueError(f"expected int32 {shape}, got {found.dtype} {found.shape}")
        if found[:, 0].max() >= len(maps) or found[:, 1].max() >= places:
            raise ValueError(f"expected images below {len(maps)} and locations below {places}")
    return Matches(found[:, 0], found[:, 1])


def _locations(maps: LocationMaps, labels: NDArray[np.int64]) -> dict[str, Any]:
    return _directions(maps.directions, maps.overall_directions) | _share(maps.image_vectors, labels)


def _directions(classes: Directions, overall: Directions) -> dict[str, Any]:
    tested = np.isfinite(classes.p_value)
    known = classes.length[np.isfinite(classes.length)]
    return {
        "angle": math.degrees(overall.angle[0]),
        "length": overall.length[0],
        "median_class_length": np.median(known) if len(known) else math.nan,
        "classes_tested": tested.sum(),
        "classes_directed": (classes.p_value[tested] < ALPHA / max(1, tested.sum())).sum(),
    }


def _share(vectors: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    share, chance = class_share(vectors, labels)
    return {"class_share": share, "class_share_by_chance": chance}


def _spread(maps: ConditionalMaps) -> dict[str, float]:
    """Mean variances over the locations that have a radius, by matches."""
    known = np.isfinite(maps.spread.radial)
    parts = {
        "radial": maps.spread.radial,
        "tangential": maps.spread.tangential,
        "isotropic_radial": maps.isotropic.radial,
        "isotropic_tangential": maps.isotropic.tangential,
    }
    weights = maps.counts[known]
    return {
        name: float(np.average(values[known], weights=weights)) if weights.sum() else math.nan
        for name, values in parts.items()
    }
