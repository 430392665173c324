"""`pyhue bench`: what it counts and times, on a features file of a few images."""

import json
import sys

import numpy as np
import pytest

from pyhue import _bench, _cli
from pyhue._files.tensors import save_tensors
from pyhue.features import load_features


@pytest.fixture
def features(tmp_path):
    """A features file of 12 images of 5 channels on 3 x 2 places; some vectors are all zero."""
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(12, 5, 3, 2)), 0)
    maps[::4, :, 1, 1] = 0
    path = tmp_path / "features.safetensors"
    metadata = {"format": "pyhue.features", "version": "1", "classes": '["one"]', "source": "{}"}
    metadata["names"] = json.dumps([f"{number}.png" for number in range(12)])
    arrays = {"labels": np.zeros(12, np.int64), "activations": maps.astype(np.float16)}
    save_tensors(path, metadata, arrays)
    return path


@pytest.fixture(params=["faiss", "numpy"])
def rival(request, monkeypatch):
    """With FAISS, and where it is not installed."""
    if request.param == "faiss":
        pytest.importorskip("faiss")
    else:
        find_spec = _bench.importlib.util.find_spec
        monkeypatch.setattr(
            _bench.importlib.util, "find_spec", lambda name: None if name == "faiss" else find_spec(name)
        )
    return request.param


def test_table(features, rival, capsys):
    assert _cli.main(["bench", str(features), "--images", "4", "-k", "3"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Exact search of 48 pixel vectors of 5 channels, 5")
    assert "FAISS" in text
    assert ("NumPy" in text) == (rival == "numpy")
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    asked = load_features(features).activations[[0, 3, 6, 9]].any(axis=1).sum()
    assert asked < 24  # the others are all zero
    assert rows == ["queries", "-" * 7, str(asked), "6", "1"]  # all; of an image; one


def test_json(features, rival, capsys):
    assert _cli.main(["bench", str(features), "--images", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["vectors"], found["dim"], found["k"]) == (48, 5, 10)
    assert all(turn["pyhue"] > 0 and turn["rival"] > 0 for turn in found["turns"])
    assert found["environment"]["pyhue"]


def test_faiss_s_settings_are_put_back(features):
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    faiss.omp_set_num_threads(3)
    faiss.cvar.distance_compute_blas_threshold = 7
    try:
        assert _cli.main(["bench", str(features)]) == 0
        assert (faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold) == (3, 7)
    finally:
        faiss.omp_set_num_threads(before[0])
        faiss.cvar.distance_compute_blas_threshold = before[1]


def test_other_neighbours_are_an_error(features, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(_bench.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(_bench, "brute_force", lambda vectors, queries, k: np.zeros((len(queries), k), int))
    with pytest.raises(RuntimeError, match="differ from brute force's"):
        _cli.main(["bench", str(features)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "12"], "images: expected fewer than the 12 of the file, got 12"),
        (["--images", "0"], "images: expected at least 1"),
        (["-k", "0"], "k: expected at least 1"),
    ],
)
def test_wrong_arguments(features, options, message, capsys):
    assert _cli.main(["bench", str(features), *options]) == 1
    assert message in capsys.readouterr().err
