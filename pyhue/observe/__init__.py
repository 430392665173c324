"""Where a network's activations hold what tells classes apart: the observations, on feature maps.

Functions of NumPy arrays, each with an array or a named tuple of arrays as its result; `pyhue.observe.plots`
draws them.
The numbers of the observations are those of Bouchard, Ben Lazreg and Toews, arXiv 2310.03911.
"""

from pyhue.observe.circular import Directions, class_share, rayleigh
from pyhue.observe.conditional import ConditionalLocations, ConditionalMaps, Spread, conditional_locations
from pyhue.observe.energy import EnergyMaps, energy_maps
from pyhue.observe.hue_histogram import HueHistograms, hue_histograms
from pyhue.observe.locations import LocationMaps, MatchLocations, match_locations
from pyhue.observe.matches import Matches, find_matches
from pyhue.observe.votes import votes

__all__ = [
    "ConditionalLocations",
    "ConditionalMaps",
    "Directions",
    "EnergyMaps",
    "HueHistograms",
    "LocationMaps",
    "MatchLocations",
    "Matches",
    "Spread",
    "class_share",
    "conditional_locations",
    "energy_maps",
    "find_matches",
    "hue_histograms",
    "match_locations",
    "rayleigh",
    "votes",
]
