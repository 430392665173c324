"""The report of `pyhue observe`: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from pyhue.features import Features
from pyhue.observe._summary import ALPHA, Observations
from pyhue.observe.conditional import SMALLEST_VARIANCE

_STYLE = """
body { font: 16px/1.5 Georgia, serif; color: #22262b; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { font-family: Helvetica, Arial, sans-serif; line-height: 1.2 }
h2 { margin-top: 2.5rem; border-top: 1px solid #d5dae0; padding-top: 1.2rem }
img { width: 100% }
p.how { color: #5a626b; font-size: 0.92em }
table { border-collapse: collapse; font: 13px/1.35 Helvetica, Arial, sans-serif; margin: 1rem 0 }
th, td { padding: 0.15rem 0.7rem; text-align: right; border-bottom: 1px solid #e6e9ed; white-space: nowrap }
th { vertical-align: bottom; border-bottom: 1px solid #5a626b }
th:first-child, td:first-child { text-align: left }
thead { display: table-header-group }
@page { size: A4; margin: 1.5cm }
@media print {
  body { margin: 0; max-width: none; padding: 0; font-size: 11pt }
  table { font-size: 7.5pt } th, td { padding: 0.1rem 0.35rem }
  img, tr, table:has(+ img) { break-inside: avoid }
  h2, p:has(+ table), table:has(+ img) { break-after: avoid }
}
"""


def page(
    features: Features, found: Observations, numbers: dict[str, Any], pictures: dict[str, bytes], k: int
) -> str:
    """The page as a string.

    Args:
        features: what was observed.
        found: the observations.
        numbers: their `summary`.
        pictures: PNG files "energy", "locations", "conditional" and "hue".
        k: matches of each vector.
    """
    sections = (
        ("Where the energy is", "energy", _energy(numbers)),
        ("Where the matches are", "locations", _locations(numbers, k)),
        ("Matches along and across the radius", "conditional", _conditional(numbers)),
        ("Activation hue", "hue", _hue(numbers)),
    )
    body = "".join(
        f"<section><h2>{title}</h2>{text[0]}<img alt='{title}' src='data:image/png;base64,"
        f"{base64.b64encode(pictures[name]).decode()}'>{text[1]}</section>\n"
        for title, name, text in sections
    )
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>Activations observed</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>Activations observed</h1>{_subject(features)}{body}"
        f"<section><h2>All classes</h2>{_classes(features, found)}</section></body></html>\n"
    )


def _subject(features: Features) -> str:
    images, channels, height, width = features.activations.shape
    empty = sum(1 for cls in range(len(features.classes)) if not (features.labels == cls).any())
    return (
        f"<p>{images:,} images of {len(features.classes) - empty} classes, through the network "
        f"<code>{escape(str(features.source.get('backbone', 'unknown')))}</code> at "
        f"{features.source.get('image_size', 'unknown')} pixels. Every image becomes a map of "
        f"{height} &times; {width} locations, each with a pixel vector of {channels:,} channels.</p>"
    )


def _energy(numbers: dict[str, Any]) -> tuple[str, str]:
    centre, border = numbers["energy_centre"], numbers["energy_border"]
    if not border:
        return "<p>At the border there is no energy.</p>", ""
    return (
        f"<p>The mean energy is {centre:,.4g} at the centre of the map and {border:,.4g} along its border: "
        f"{centre / border:.2f} times as much.</p>",
        _how(
            "Energy is the squared norm of the pixel vector as the network gives it. Photographs mostly have "
            "their subject in the middle, and the network pads the border with zeros; both do this."
        ),
    )


def _locations(numbers: dict[str, Any], k: int) -> tuple[str, str]:
    same, other = numbers["same"], numbers["other"]
    rows = [
        [
            name,
            *_direction_cells(part),
            _percent(part["class_share"]),
            _percent(part["class_share_by_chance"]),
        ]
        for name, part in (("same class", same), ("other classes", other))
    ]
    head = ["matches in", *_DIRECTION_HEAD, "of the images' angles<br>explained by class", "by chance"]
    return (
        f"<p>Every pixel vector was matched with its {k} nearest ones of other images; "
        f"{_percent(numbers['same_class_matches'])} of the matches lie in an image of the same class. "
        "If matches of a class had no preferred side of the image, the angles of its images would spread "
        "evenly over the circle.</p>" + _table(head, rows),
        _how(
            "Unit-length vectors, squared Euclidean distance, exact search. The angle of a match is that "
            "of its location about the centre of the map: 0&deg; right, 90&deg; up. R is the mean resultant "
            "length, 0 for angles spread evenly, 1 for equal ones. The Rayleigh test takes one angle from "
            "each image, because an image's matches are not independent, and counts a class as directed at "
            f"p &lt; {ALPHA} / number of classes. A direction that all classes share (the first two columns) "
            "says nothing about class; the share explained by class leaves it out."
        ),
    )


def _conditional(numbers: dict[str, Any]) -> tuple[str, str]:
    rows = []
    for name, part in (("same class", numbers["same"]), ("other classes", numbers["other"])):
        values = [part[key] for key in ("radial", "tangential", "isotropic_radial", "isotropic_tangential")]
        if None in values:
            rows.append([name, *["&ndash;"] * 6])
            continue
        cells = []
        for radial, tangential in (values[:2], values[2:]):
            # Matches that all lie in one place have no spread but rounding.
            ratio = f"{tangential / radial:.2f}" if radial > SMALLEST_VARIANCE else "&ndash;"
            cells += [f"{radial:.2f}", f"{tangential:.2f}", ratio]
        rows.append([name, *cells])
    head = ["matches in", "radial", "tangential", "ratio"]
    head += ["radial,<br>isotropic", "tangential,<br>isotropic", "ratio,<br>isotropic"]
    return (
        "<p>Given the location x<sub>i</sub> of a vector, how far do its matches spread along the line from "
        "the centre through x<sub>i</sub> (radial), and how far across it (tangential)? Variances in squared "
        "locations:</p>" + _table(head, rows),
        _how(
            "Means over x<sub>i</sub>, weighted by matches. The border of the map cuts distributions off, "
            "which alone makes the two differ: the isotropic columns have the same distribution over the "
            "distance between x<sub>i</sub> and its match, and no preferred direction. Only what differs "
            "from them is structure."
        ),
    )


def _hue(numbers: dict[str, Any]) -> tuple[str, str]:
    hue = numbers["hue"]
    cells = [*_direction_cells(hue), _percent(hue["class_share"]), _percent(hue["class_share_by_chance"])]
    head = ["", *_DIRECTION_HEAD, "of the images' angles<br>explained by class", "by chance"]
    return (
        "<p>The hue of a pixel vector is its angle when the axes of the channels are spread evenly over a "
        "circle.</p>" + _table(head, [["all vectors", *cells]]),
        _how(
            "Vectors that are all zero have no hue. The order of the channels of a network is arbitrary, so "
            "the angles themselves mean nothing; that images of a class share them does. But any two numbers "
            "made from the channels would tell classes apart to some degree: this alone does not show that "
            "the circle is special."
        ),
    )


_DIRECTION_HEAD = ["mean angle", "R", "median R<br>of a class", "classes<br>directed"]


def _direction_cells(part: dict[str, Any]) -> list[str]:
    return [
        "&ndash;" if part["angle"] is None else f"{part['angle']:.0f}&deg;",
        _number(part["length"]),
        _number(part["median_class_length"]),
        f"{part['classes_directed']} of {part['classes_tested']}",
    ]


def _classes(features: Features, found: Observations) -> str:
    head = ["class", "images", "energy"]
    head += ["same-class<br>matches", "angle", "R", "p", "other-class<br>angle", "R", "p", "hue", "R", "p"]
    parts = (found.locations.same.directions, found.locations.other.directions, found.hue.directions)
    counts = found.locations.same.counts
    rows = []
    for cls in np.unique(features.labels):
        total = counts[cls] + found.locations.other.counts[cls]
        row = [escape(features.classes[cls]), f"{(features.labels == cls).sum():,}"]
        row += [f"{found.energy.classes[cls].mean():.4g}", _percent(counts[cls] / total if total else None)]
        for part in parts:
            angle = np.degrees(part.angle[cls])
            row.append(f"{angle:.0f}&deg;" if np.isfinite(angle) else "&ndash;")
            row += [_number(part.length[cls]), _p_value(part.p_value[cls])]
        rows.append(row)
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _how(text: str) -> str:
    return f"<p class='how'>{text}</p>"


def _number(value: float | None) -> str:
    return "&ndash;" if value is None or not np.isfinite(value) else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "&ndash;" if value is None else f"{100 * value:.1f} %"


def _p_value(value: float) -> str:
    if not np.isfinite(value):
        return "&ndash;"
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"
