"""Names of classes and runs are drawn as they are, whatever is in them."""

import inspect
import io
import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

from matplotlib.text import Text

from pyhue._runs.config import TrainConfig
from pyhue._runs.results import Result, Run
from pyhue._text import for_plot
from pyhue.observe import (
    conditional_locations,
    energy_maps,
    find_matches,
    hue_histograms,
    match_locations,
    plots,
)
from pyhue.training.compare_plot import comparison_png
from pyhue.training.compare_rows import row_of
from pyhue.training.report_plot import curves_png

NAMES = [
    "$a$ or $b$", "$\\frac$", "$$", "$5",
    "a$b$c$", "\\$x$", "\\", "a_b^{c", "%#&", "日本", "b\udce9e", "a\nb", "\x1b[0m", "",
]  # fmt: skip
MAPS = np.random.default_rng(0).random((2 * len(NAMES), 4, 3, 3), np.float32)
LABELS = np.repeat(np.arange(len(NAMES)), 2)


def figures(names):
    """By function, a figure of each kind for classes of such names."""
    matches = find_matches(MAPS, 3)
    shares = np.full((len(names), 3, 3), 1 / 9)
    return {
        "plot_energy_maps": plots.plot_energy_maps(energy_maps(MAPS, LABELS), names),
        "plot_match_locations": plots.plot_match_locations(match_locations(matches, LABELS, (3, 3)), names),
        "plot_conditional_locations": plots.plot_conditional_locations(
            conditional_locations(matches, LABELS, (3, 3))
        ),
        "plot_hue_histograms": plots.plot_hue_histograms(hue_histograms(MAPS, LABELS), names),
        "plot_votes": plots.plot_votes(MAPS.mean(axis=1)[: len(names)], shares, names),
    }


def drawn(figure):
    """The texts of a figure that was drawn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # boxes are drawn
        figure.savefig(io.BytesIO(), format="png", dpi=40)
    return [text.get_text() for text in figure.findobj(Text)]


def test_every_picture_of_classes_is_drawn():
    pictures = figures(NAMES)
    assert set(pictures) == set(plots.__all__)
    for function, figure in pictures.items():
        texts = " ".join(drawn(figure))
        if "names" in inspect.signature(getattr(plots, function)).parameters:
            assert any(for_plot(name) in texts for name in NAMES[:6])


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_a_run_is_drawn(tmp_path, name):
    result = Result(0, 0, "test", 0.5, 1.0, 0.9, 0.6, 40, 160, 1, 20, 1000, 1, 3.0, "")
    curve = [{"epoch": 1.0, "train_loss": 1.0, "train_accuracy": 0.5}]
    run = Run(tmp_path / (name or "x"), TrainConfig("data"), {(0, 0): result}, {(0, 0): curve})
    row = row_of(name, run, run)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        assert curves_png(run)
        assert comparison_png([row, row])


def test_dollars_are_dollars():
    """Drawn text has the width of its characters, not that of a formula."""
    from matplotlib.figure import Figure

    figure = Figure()
    figure.text(0, 0.5, for_plot("$$$$"), fontsize=20)
    figure.text(0, 0.1, for_plot("SSSS"), fontsize=20)
    figure.canvas.draw()
    dollars, letters = (text.get_window_extent().width for text in figure.texts)
    assert dollars == pytest.approx(letters, rel=0.05)
