"""Pictures of the observations; each function returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pyhue._figures import BLUE, GRID, INK, MUTED, RED
from pyhue._text import for_plot
from pyhue.observe.circular import Directions
from pyhue.observe.conditional import SMALLEST_VARIANCE, ConditionalLocations, Spread
from pyhue.observe.energy import EnergyMaps
from pyhue.observe.hue_histogram import HueHistograms
from pyhue.observe.locations import MatchLocations, centred

__all__ = [
    "plot_conditional_locations",
    "plot_energy_maps",
    "plot_hue_histograms",
    "plot_match_locations",
    "plot_votes",
]

_SHOWN = 12  # classes that get a panel of their own
_SAME, _OTHER = BLUE, RED


def plot_energy_maps(maps: EnergyMaps, classes: Sequence[str]) -> Figure:
    """The map of all images, its profile over the radius, and the classes that differ most from it.

    Maps are divided by their mean, so that they show where the energy is, not how much. A class without any
    is not shown.

    Args:
        maps: from `energy_maps`.
        classes: names of the classes.
    """
    figure, left, right = _figure("Energy of the activations, E(x, y) = ‖I(x, y)‖²")
    whole, profile = left.subplots(2, 1, height_ratios=(1.5, 1))
    overall, relative = np.nan_to_num(_relative(maps.overall)), _relative(maps.classes)
    shown = _largest(np.abs(relative - overall).mean(axis=(1, 2)))
    top = float(np.max([overall, *relative[shown]], initial=1))
    left.colorbar(_draw_map(whole, overall, top), ax=whole, label="energy / mean energy")
    whole.set_title("all images", fontsize=10)
    profile.plot(maps.radius, maps.profile, "o-", color=_SAME, markersize=4)
    profile.set_xlabel("distance from the centre (locations)")
    profile.set_ylabel("mean energy")
    profile.set_ylim(bottom=0)
    profile.spines[["top", "right"]].set_visible(False)
    right.suptitle("Classes whose maps differ most from that of all images", fontsize=10)
    for axes, cls in zip(_grid(right, len(shown)), shown, strict=True):
        _draw_map(axes, relative[cls], top)
        axes.set_title(_short(classes[cls]), fontsize=8.5)
    return figure


def plot_match_locations(locations: MatchLocations, classes: Sequence[str]) -> Figure:
    """p(x, y) of all classes, the mean direction of each, and the classes with the clearest direction.

    Args:
        locations: from `match_locations`.
        classes: names of the classes.
    """
    figure, left, right = _figure("Locations of the matches of pixel vectors, p(x, y)")
    panels = left.subplot_mosaic(
        [["same", "other"], ["polar", "polar"]],
        height_ratios=(1, 1.35),
        per_subplot_kw={"polar": {"projection": "polar"}},
    )
    same, other = locations.same, locations.other
    shown = _largest(np.where(same.directions.images > 1, same.directions.length, np.nan))
    places = same.overall.size
    known = np.isfinite([same.overall, other.overall])
    overall_top = places * float(np.max([same.overall, other.overall], initial=1 / places, where=known))
    top = places * float(np.max(same.density[shown], initial=1 / places))
    for name, part in (("same", same), ("other", other)):
        axes = panels[name]
        image = _draw_map(axes, part.overall * places, overall_top)
        _draw_arrow(axes, part.overall_directions, 0, part.overall.shape)
        axes.set_title("same class" if name == "same" else "other classes", fontsize=9.5)
    left.colorbar(image, ax=[panels["same"], panels["other"]], label="p(x, y) / uniform")
    polar = panels["polar"]
    for part, color, name in ((other, _OTHER, "other classes"), (same, _SAME, "same class")):
        polar.plot(part.directions.angle, part.directions.length, ".", color=color, label=name, alpha=0.7)
    _tidy_polar(polar, _reach(same.directions, other.directions))
    polar.set_title("each class's mean angle and resultant length R", fontsize=9.5)
    polar.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2, frameon=False, fontsize=8.5)
    right.suptitle(
        "Same-class matches of the classes with the largest R; arrows: mean angle, length ~ R", fontsize=10
    )
    for axes, cls in zip(_grid(right, len(shown)), shown, strict=True):
        _draw_map(axes, same.density[cls] * places, top)
        _draw_arrow(axes, same.directions, cls, same.overall.shape)
        axes.set_title(f"{_short(classes[cls])}, R = {same.directions.length[cls]:.2f}", fontsize=8.5)
    return figure


def plot_conditional_locations(locations: ConditionalLocations) -> Figure:
    """Variance across and along the radius by distance from the centre, and p(x, y | x_i) at nine places.

    Args:
        locations: from `conditional_locations`.
    """
    figure, left, right = _figure("Locations of matches given the location that asks, p(x, y | x_i)")
    size = locations.same.density.shape[1:]
    axes = left.subplots()
    radius = np.hypot(*centred(size).T).round(6)
    lines = (
        (locations.same.spread, locations.same.counts, _SAME, "o-", "same class"),
        (locations.same.isotropic, locations.same.counts, _SAME, ":", "same class, isotropic"),
        (locations.other.spread, locations.other.counts, _OTHER, "o-", "other classes"),
        (locations.other.isotropic, locations.other.counts, _OTHER, ":", "other classes, isotropic"),
    )
    for spread, counts, color, style, name in lines:
        axes.plot(*_ratio_by_radius(spread, counts, radius), style, color=color, markersize=4, label=name)
    axes.axhline(1, color=MUTED, linewidth=0.8)
    axes.set_xlabel("distance of x_i from the centre (locations)")
    axes.set_ylabel("tangential / radial variance of the matches")
    axes.legend(frameon=False, fontsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    right.suptitle("p(x, y | x_i) of same-class matches; the cross is x_i", fontsize=10)
    rows, columns = (np.unique([0, (length - 1) // 2, length - 1]) for length in size)
    places = [(row, column) for row in rows for column in columns]
    density = np.nan_to_num(locations.same.density) * size[0] * size[1]
    top = max(float(np.max([density[row * size[1] + column] for row, column in places])), 1e-9)
    grid = np.ravel(right.subplots(len(rows), len(columns), squeeze=False))
    for panel, (row, column) in zip(grid, places, strict=True):
        image = _draw_map(panel, density[row * size[1] + column], top)
        panel.plot(column, row, "x", color="white", markersize=7, markeredgewidth=3)
        panel.plot(column, row, "x", color=_OTHER, markersize=6, markeredgewidth=1.5)
    right.colorbar(image, ax=list(grid), label="p(x, y | x_i) / uniform")
    return figure


def plot_hue_histograms(histograms: HueHistograms, classes: Sequence[str]) -> Figure:
    """The hues of all pixel vectors, the mean hue of each class, and the classes with the clearest hue.

    Args:
        histograms: from `hue_histograms`.
        classes: names of the classes.
    """
    figure, left, right = _figure("Activation hue of pixel vectors")
    whole, means = left.subplots(2, 1, subplot_kw={"projection": "polar"})
    difference = np.abs(histograms.density - histograms.overall).sum(axis=1)
    shown = _largest(np.where(histograms.counts > 0, difference, np.nan))
    overall = np.nan_to_num(histograms.overall)  # NaN where no vector has a hue
    bins = len(overall)
    _draw_rose(whole, histograms.edges, overall, 1.1 * bins * np.max(overall, initial=1 / bins), MUTED)
    whole.set_title("all vectors, share / uniform", fontsize=9.5)
    means.plot(histograms.directions.angle, histograms.directions.length, ".", color=_SAME, alpha=0.7)
    _tidy_polar(means, _reach(histograms.directions))
    means.set_title("each class's mean hue and resultant length R", fontsize=9.5)
    top = bins * float(np.max([overall, *histograms.density[shown]]))
    right.suptitle("Classes whose hues differ most from those of all vectors (grey outline)", fontsize=10)
    for axes, cls in zip(_grid(right, len(shown), projection="polar"), shown, strict=True):
        _draw_rose(axes, histograms.edges, histograms.density[cls], top, _SAME)
        outline = np.repeat(overall, 2) * bins
        axes.plot(np.repeat(histograms.edges, 2)[1:-1], outline, color=MUTED, linewidth=0.9)
        axes.set_title(f"{_short(classes[cls])}, R = {histograms.directions.length[cls]:.2f}", fontsize=8.5)
        axes.set_xticklabels([])
        axes.set_yticklabels([])
    return figure


def plot_votes(images: Sequence[NDArray[Any]], shares: NDArray[np.float64], titles: Sequence[str]) -> Figure:
    """Images, and below each of them which of its pixels spoke for the class.

    Args:
        images: what was looked at, (height, width) or (height, width, 3) each, as matplotlib shows them.
        shares: from `votes`, (images, H, W), each cell over the part of the image where it lies.
        titles: of the images.
    """
    figure = Figure(
        figsize=(1.9 * max(4, len(images)) + 1, 4.6), facecolor="white", layout=ConstrainedLayoutEngine()
    )
    figure.suptitle("Which pixels spoke for the class", fontsize=13, fontweight="bold", color=INK)
    axes = figure.subplots(2, len(images), squeeze=False)
    relative = shares * shares[0].size
    for column, (image, share, title) in enumerate(zip(images, relative, titles, strict=True)):
        height, width = image.shape[:2]
        for panel in axes[:, column]:
            panel.set_xticks([])
            panel.set_yticks([])
        axes[0, column].imshow(image, cmap="gray")
        axes[0, column].set_title(for_plot(title), fontsize=9)
        axes[1, column].imshow(image if image.ndim == 2 else image.mean(axis=2), cmap="gray")
        heat = axes[1, column].imshow(
            share, cmap="inferno", vmin=0, vmax=np.nanmax(relative, initial=1), alpha=0.65,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )  # fmt: skip
    figure.colorbar(heat, ax=list(axes[1]), label="share / mean share")
    return figure


def _figure(title: str) -> tuple[Figure, SubFigure, SubFigure]:
    engine = ConstrainedLayoutEngine(rect=(0.015, 0.01, 0.97, 0.98))
    figure = Figure(figsize=(12, 6.4), facecolor="white", layout=engine)
    figure.suptitle(title, fontsize=13, fontweight="bold", color=INK)
    halves = np.ravel(figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.75), wspace=0.04))
    return figure, halves[0], halves[1]


def _relative(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps (..., H, W) over the mean of each; NaN where that is 0."""
    means = maps.mean(axis=(-2, -1), keepdims=True)
    result: NDArray[np.float64] = np.divide(maps, means, out=np.full_like(maps, np.nan), where=means > 0)
    return result


def _largest(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The groups with the largest values, NaN left out."""
    order = np.argsort(-values, kind="stable")  # NaN goes last
    return order[: min(_SHOWN, int(np.isfinite(values).sum()))]


def _grid(figure: SubFigure, count: int, **options: Any) -> list[Axes]:
    columns = min(4, max(1, count))
    rows = -(-max(1, count) // columns)
    panels = list(np.ravel(figure.subplots(rows, columns, squeeze=False, subplot_kw=options)))
    for panel in panels[count:]:
        panel.remove()
    return panels[:count]


def _short(name: str) -> str:
    return for_plot(name if len(name) <= 16 else name[:15] + "…")


def _draw_map(axes: Axes, values: NDArray[np.float64], top: float) -> Any:
    axes.set_xticks([])
    axes.set_yticks([])
    return axes.imshow(values, cmap="viridis", vmin=0, vmax=top)


def _draw_arrow(axes: Axes, directions: Directions, group: int, size: tuple[int, ...]) -> None:
    angle, length = directions.angle[group], directions.length[group]
    if np.isfinite(angle):
        start = (size[1] - 1) / 2, (size[0] - 1) / 2
        reach = length * min(size) / 2
        end = start[0] + reach * np.cos(angle), start[1] - reach * np.sin(angle)
        style = {"arrowstyle": "-|>", "color": "white", "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", end, start, arrowprops=style)


def _reach(*parts: Directions) -> float:
    """A radius for all the resultant lengths."""
    lengths = np.concatenate([part.length for part in parts])
    return 1.08 * float(np.max(lengths, initial=0.05, where=np.isfinite(lengths)))


def _draw_rose(
    axes: Axes, edges: NDArray[np.float64], density: NDArray[np.float64], top: float, color: str
) -> None:
    axes.bar(edges[:-1], density * len(density), np.diff(edges), align="edge", color=color, alpha=0.75)
    _tidy_polar(axes, top)


def _tidy_polar(axes: Axes, top: float) -> None:
    axes.tick_params(labelsize=8, colors=INK)
    axes.set_xticks(np.arange(0, 2 * np.pi, np.pi / 2))
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_ylim(0, top)
    axes.set_yticks([tick for tick in MaxNLocator(3).tick_values(0, top) if 0 < tick < top])


def _ratio_by_radius(
    spread: Spread, counts: NDArray[np.int64], radius: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean tangential over mean radial variance of the locations at each distance; NaN without a spread."""
    known = np.isfinite(spread.radial)
    values, ring = np.unique(radius[known], return_inverse=True)
    radial, tangential = (np.bincount(ring, (counts * part)[known], len(values)) for part in spread)
    wide = radial > SMALLEST_VARIANCE * np.bincount(ring, counts[known], len(values))
    ratio = np.full(len(values), np.nan)
    ratio[wide] = tangential[wide] / radial[wide]
    return values, ratio
