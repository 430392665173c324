import io

import numpy as np
import pytest

from pyhue import activation_hue, observe
from pyhue.observe import _page, circular, plots
from pyhue.observe.conditional import Spread
from pyhue.observe.plots import _ratio_by_radius


@pytest.fixture(scope="module")
def maps():
    return np.random.default_rng(0).random((12, 6, 3, 4)).astype(np.float32)


LABELS = np.arange(12) % 3


def test_energy_is_the_squared_norm_averaged_by_class(maps):
    found = observe.energy_maps(maps.astype(np.float16), LABELS)
    energy = (maps.astype(np.float16).astype(np.float64) ** 2).sum(axis=1)
    for cls in range(3):
        np.testing.assert_allclose(found.classes[cls], energy[cls == LABELS].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.overall, energy.mean(axis=0), rtol=1e-5)


def test_energy_profile_runs_from_the_centre_outwards():
    maps = np.zeros((1, 1, 3, 3))
    maps[0, 0] = [[1, 2, 1], [2, 3, 2], [1, 2, 1]]
    found = observe.energy_maps(maps, [0])
    np.testing.assert_allclose(found.radius, [0, 1, np.sqrt(2)])
    np.testing.assert_allclose(found.profile, [9, 4, 1])


def test_a_class_without_images_is_nan(maps):
    found = observe.energy_maps(maps[:2], [0, 2])
    assert np.isnan(found.classes[1]).all()
    assert np.isfinite(found.classes[[0, 2]]).all()


def test_matches_are_the_nearest_of_other_images(maps):
    k = 5
    found = observe.find_matches(maps, k)
    vectors = maps.reshape(12, 6, 12).swapaxes(1, 2).reshape(-1, 6).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = ((vectors[:, None] - vectors) ** 2).sum(axis=-1)
    image = np.arange(144) // 12
    distances[image[:, None] == image] = np.inf
    expected = np.sort(distances, axis=1)[:, :k]
    got = np.take_along_axis(distances, (found.images * 12 + found.pixels).reshape(144, k), axis=1)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_zero_vectors_match_nothing_and_few_images_leave_gaps():
    maps = np.random.default_rng(1).random((2, 4, 1, 3))
    maps[0, :, 0, 1] = 0
    found = observe.find_matches(maps, k=4)
    assert (found.images[0, 1] == -1).all()
    assert (found.pixels[0, 1] == -1).all()
    np.testing.assert_array_equal(np.sort(found.pixels[1], axis=1), [[-1, -1, 0, 2]] * 3)
    np.testing.assert_array_equal(found.images[0, 0], [1, 1, 1, -1])
    assert (observe.find_matches(np.zeros((2, 4, 1, 3)), k=2).images == -1).all()


def planted(pixel_of_match, images=20, size=(3, 3)):
    """Matches of `images` images of two classes, all at the pixel that the class's entry names."""
    labels = np.arange(images) % 2
    partner = (np.arange(images) + 2) % images  # of the same class
    shape = (images, size[0] * size[1], 1)
    pixels = np.broadcast_to(np.asarray(pixel_of_match)[labels][:, None, None], shape)
    return observe.Matches(np.broadcast_to(partner[:, None, None], shape), pixels), labels


@pytest.mark.parametrize(
    ("pixel", "angle"),
    [(5, 0), (2, np.pi / 4), (1, np.pi / 2), (3, np.pi), (7, -np.pi / 2), (8, -np.pi / 4)],
)
def test_planted_direction_is_found(pixel, angle):
    matches, labels = planted([pixel, 4])
    found = observe.match_locations(matches, labels, (3, 3))
    density = np.zeros(9)
    density[pixel] = 1
    np.testing.assert_array_equal(found.same.density[0].ravel(), density)
    assert found.same.directions.angle[0] == pytest.approx(angle)
    assert found.same.directions.length[0] == pytest.approx(1)
    assert found.same.directions.p_value[0] < 1e-4
    assert np.isnan(found.same.directions.angle[1])  # the centre pixel has no angle
    np.testing.assert_array_equal(found.same.counts, [90, 90])
    np.testing.assert_array_equal(found.other.counts, [0, 0])
    assert np.isnan(found.other.density).all()


def test_same_and_other_are_told_apart(maps):
    matches = observe.find_matches(maps, k=3)
    found = observe.match_locations(matches, LABELS, (3, 4))
    same = LABELS[matches.images] == LABELS[:, None, None]
    assert found.same.counts.sum() == same.sum()
    assert found.other.counts.sum() == (~same).sum()
    expected = np.bincount(matches.pixels[same & (LABELS == 1)[:, None, None]], minlength=12)
    np.testing.assert_allclose(found.same.density[1].ravel() * found.same.counts[1], expected)
    np.testing.assert_allclose(found.other.density.sum(axis=(1, 2)), 1)


def test_directions_of_uniform_angles_are_chance():
    random = np.random.default_rng(2)
    angles = random.uniform(0, 2 * np.pi, (4000, 5))
    sums = np.stack((np.cos(angles).sum(axis=1), np.sin(angles).sum(axis=1)), axis=-1)
    found = circular.directions(sums, np.full(4000, 5), np.arange(4000) % 200, 200)
    assert 0.4 < found.p_value.mean() < 0.6  # p-values of 200 groups, uniform
    assert 0.01 < (found.p_value < 0.05).mean() < 0.10
    np.testing.assert_array_equal(found.images, 20)


def test_rayleigh_against_simulation():
    angles = np.random.default_rng(3).uniform(0, 2 * np.pi, (100_000, 12))
    length = np.abs(np.exp(1j * angles).mean(axis=1))
    for quantile in (0.5, 0.9, 0.99):
        assert observe.rayleigh(np.quantile(length, quantile), 12) == pytest.approx(1 - quantile, abs=0.005)
    assert np.isnan(observe.rayleigh(0.0, 0))


def test_class_share_ignores_what_classes_have_in_common():
    random = np.random.default_rng(5)
    labels = np.repeat(np.arange(10), 20)

    def share(angles):
        return observe.class_share(np.stack((np.cos(angles), np.sin(angles)), axis=-1), labels)

    common = 0.3 * random.standard_normal(200)
    assert share(common)[0] == pytest.approx(9 / 199, abs=0.05)
    assert share(common)[1] == pytest.approx(9 / 199)
    assert share(labels + common)[0] > 0.8
    assert np.isnan(observe.class_share(np.zeros((3, 2)), np.arange(3))).all()


def test_conditional_densities_count_pairs(maps):
    matches = observe.find_matches(maps, k=3)
    found = observe.conditional_locations(matches, LABELS, (3, 4))
    same = LABELS[matches.images] == LABELS[:, None, None]
    for pixel in (0, 7):
        expected = np.bincount(matches.pixels[:, pixel][same[:, pixel]], minlength=12)
        np.testing.assert_allclose(found.same.density[pixel].ravel(), expected / expected.sum())
    np.testing.assert_array_equal(found.same.counts + found.other.counts, 36)


def test_spread_along_and_across_the_radius():
    """Matches of the right middle pixel lie above and below it: all variance is tangential."""
    matches, labels = planted([2, 8])
    found = observe.conditional_locations(matches, labels, (3, 3)).same
    assert found.spread.radial[5] == pytest.approx(0)
    assert found.spread.tangential[5] == pytest.approx(1)
    assert found.spread.radial[1] == pytest.approx(1)
    assert found.spread.tangential[1] == pytest.approx(0)
    assert np.isnan(found.spread.radial[4])


def test_isotropic_reference_is_what_isotropic_matches_have():
    """Matches drawn from a function of the distance alone, cut off by the border."""
    size = (5, 5)
    y, x = np.divmod(np.arange(25), 5)
    squared = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    random = np.random.default_rng(4)
    pixels = np.stack([random.choice(25, 4000, p=row / row.sum()) for row in np.exp(-squared / 4)])
    labels = np.zeros(2, int)
    shape = (2, *pixels.shape)
    images = np.broadcast_to(np.array([1, 0])[:, None, None], shape)
    matches = observe.Matches(images.astype(np.int32), np.broadcast_to(pixels, shape).astype(np.int32))
    found = observe.conditional_locations(matches, labels, size).same
    np.testing.assert_allclose(found.isotropic.radial, found.spread.radial, rtol=0.1)
    assert found.isotropic.tangential[14] > 1.2 * found.isotropic.radial[14]  # the border alone does that


def test_matches_in_one_place_have_no_ratio():
    nothing, wide = np.array([0.0, 1e-30]), np.array([1.0, 2.0])
    counts, radius = np.array([3, 4]), np.array([1.0, 2.0])
    assert np.isnan(_ratio_by_radius(Spread(nothing, wide), counts, radius)[1]).all()
    np.testing.assert_allclose(_ratio_by_radius(Spread(wide, 3 * wide), counts, radius)[1], 3)
    part = {"radial": 0.0, "tangential": 1.0, "isotropic_radial": 1e-30, "isotropic_tangential": 1.0}
    assert "&ndash;" in _page._conditional({"same": part, "other": part})[0]


def test_hue_histograms(maps):
    found = observe.hue_histograms(maps, LABELS, bins=8)
    hue = activation_hue(maps.reshape(12, 6, 12).swapaxes(1, 2).astype(np.float64))
    expected = np.histogram(hue[2::3], np.linspace(-np.pi, np.pi, 9))[0]
    np.testing.assert_allclose(found.density[2] * found.counts[2], expected)
    np.testing.assert_allclose(found.density.sum(axis=1), 1)
    mean = np.exp(1j * hue[2::3]).mean()
    assert found.directions.angle[2] == pytest.approx(np.angle(mean))
    assert found.directions.length[2] == pytest.approx(np.abs(mean))


def test_hue_of_planted_channels_and_of_nothing():
    maps = np.zeros((4, 4, 2, 2))
    maps[:2, 1] = 1  # channel 1 of 4 lies at pi / 2
    found = observe.hue_histograms(maps, [0, 0, 1, 1], bins=4)
    assert found.directions.angle[0] == pytest.approx(np.pi / 2)
    np.testing.assert_array_equal(found.counts, [8, 0])
    assert np.isnan(found.density[1]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: observe.energy_maps(m[0], [0]), "feature_maps"),
        (lambda m: observe.energy_maps(m, [0]), "labels"),
        (lambda m: observe.hue_histograms(m, -LABELS), "labels"),
        (lambda m: observe.hue_histograms(m, LABELS, bins=0), "bins"),
        (lambda m: observe.find_matches(m, k=0), "k"),
        (lambda m: observe.match_locations(observe.find_matches(m, 1), LABELS, (3, 3)), "size"),
        (lambda m: observe.conditional_locations(observe.find_matches(m, 1), LABELS, (3, 3)), "size"),
    ],
)
def test_wrong_arguments_are_named(maps, call, message):
    with pytest.raises(ValueError, match=f"^{message}: "):
        call(maps)


@pytest.mark.parametrize("filled", ["none", "two classes", "one class", "one image", "one place"])
def test_activations_that_are_all_zero_are_drawn_without_a_warning(maps, filled):
    chosen = {
        "none": np.zeros(12, bool),
        "two classes": LABELS != 1,
        "one class": LABELS == 1,
        "one image": np.arange(12) == 5,
    }.get(filled, np.ones(12, bool))
    maps = np.where(chosen[:, None, None, None], maps, 0)
    if filled == "one place":
        maps = maps * (np.arange(12).reshape(3, 4) == 6)
    matches, names = observe.find_matches(maps, 3), ["a", "b", "c"]
    energy = observe.energy_maps(maps, LABELS)
    figures = [
        plots.plot_energy_maps(energy, names),
        plots.plot_match_locations(observe.match_locations(matches, LABELS, (3, 4)), names),
        plots.plot_conditional_locations(observe.conditional_locations(matches, LABELS, (3, 4))),
        plots.plot_hue_histograms(observe.hue_histograms(maps, LABELS), names),
        plots.plot_votes(maps.mean(axis=1)[:2], np.full((2, 3, 4), np.nan), names[:2]),
    ]
    for figure in figures:
        figure.savefig(io.BytesIO(), format="png", dpi=40)
    shown = [axes.get_title() for axes in figures[0].axes]
    with_energy = [name for name, part in zip(names, energy.classes, strict=True) if part.any()]
    assert sorted(set(shown) - {"", "all images"}) == with_energy
