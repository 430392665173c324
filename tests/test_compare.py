import csv
import dataclasses

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

from matplotlib.image import imread
from scipy import stats

from pyhue import _cli
from pyhue._files.tables import write_csv
from pyhue._runs.config import TrainConfig
from pyhue._runs.results import Result
from pyhue.training.checkpoint import Epoch
from pyhue.training.compare import compare

RESULT = Result(0, 0, "test", 0.5, 1.0, 0.9, 0.6, 40, 160, 2, 20, 1000, 1, 3.0, "")


def write_run(folder, accuracies, config=None, **changes):
    """A run as `pyhue train` leaves it, with an accuracy for each seed and fold."""
    folder.mkdir()
    (folder / "config.json").write_text((config or TrainConfig("data")).to_json())
    for (seed, fold), accuracy in accuracies.items():
        place = folder / f"seed-{seed}" / f"fold-{fold}"
        place.mkdir(parents=True)
        own = {"seed": seed, "fold": fold, "accuracy": accuracy, "fingerprint": f"{seed}-{fold}"} | changes
        result = RESULT._replace(**own)
        (place / "result.json").write_text(result.to_json())
        epochs = [Epoch(number + 1, 1e-3, 1.0, 0.5, None, None) for number in range(result.epochs)]
        write_csv(place / "metrics.csv", Epoch._fields, epochs)
    return folder


def _cells(line):
    return [cell.strip() for cell in line.strip("| ").split("|")]


def folds(accuracies, seed=0):
    return {(seed, fold): accuracy for fold, accuracy in enumerate(accuracies)}


FIRST, SECOND = [0.70, 0.71, 0.70, 0.73, 0.68], [0.71, 0.74, 0.69, 0.77, 0.72]


def test_the_command_end_to_end(tmp_path, capsys):
    a = write_run(tmp_path / "onehot", folds(FIRST), TrainConfig("data", loss="onehot"))
    b = write_run(tmp_path / "hue", folds(SECOND), TrainConfig("data", hue_scale=1.5))
    out = tmp_path / "out"
    assert _cli.main(["compare", str(a), str(b), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    with (out / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["onehot", "hue"]
    expected = stats.ttest_rel(SECOND, FIRST)
    assert float(rows[1]["p_value"]) == pytest.approx(expected.pvalue)
    differences = np.subtract(SECOND, FIRST)
    t = differences.mean() / np.sqrt((1 / 5 + 40 / 160) * differences.var(ddof=1))
    assert float(rows[1]["corrected_p_value"]) == pytest.approx(2 * stats.t.sf(t, 4))
    low, high = stats.ttest_1samp(FIRST, 0).confidence_interval(0.95)
    assert float(rows[0]["margin"]) == pytest.approx((high - low) / 2)
    assert f"{100 * differences.mean():.2f}" in printed
    assert ["hue", "onehot+hue", "1.5"] in [_cells(line) for line in printed.splitlines()]
    assert "Warning" not in printed
    assert printed.split("\n\n")[0] in (out / "compare.md").read_text()
    pixels = imread(out / "compare.png")
    assert pixels.shape[1] > 800
    assert len(np.unique(pixels)) > 20


def test_only_common_seeds_and_folds_are_paired(tmp_path):
    a = write_run(tmp_path / "a", folds(FIRST) | folds(FIRST, seed=1))
    b = write_run(tmp_path / "b", folds(np.add(FIRST, 0.01)[:3]) | folds([0.1, 0.2], seed=7))
    text = compare([a, b], tmp_path / "out").text
    assert "b: 3 of 5 trainings have a pair in a." in text
    row = (tmp_path / "out" / "compare.csv").read_text().splitlines()[2].split(",")
    assert row[1] == "5"
    assert row[4] == "3"
    assert float(row[5]) == pytest.approx(0.01)


def test_one_training_has_no_interval(tmp_path):
    runs = [write_run(tmp_path / name, {(0, 0): 0.5}) for name in "ab"]
    text = compare(runs, tmp_path / "out").text
    assert "nan" not in text
    assert ["b", "1", "50.00 %", "+0.00", "", ""] in [_cells(line)[:6] for line in text.splitlines()]


def test_seeds_on_data_divided_once_are_not_corrected(tmp_path):
    accuracies = {(seed, 0): value for seed, value in enumerate(FIRST)}
    a = write_run(tmp_path / "a", accuracies, fingerprint="same")
    later = {(seed, 0): value for seed, value in enumerate(SECOND)}
    b = write_run(tmp_path / "b", later, fingerprint="same")
    assert "divided once" in compare([a, b], tmp_path / "out").text
    row = (tmp_path / "out" / "compare.csv").read_text().splitlines()[2].split(",")
    assert row[6] == row[8]


@pytest.mark.parametrize("change", [{"fingerprint": "other"}, {"measured_on": "val"}])
def test_runs_on_different_images_are_not_paired(tmp_path, change, capsys):
    a = write_run(tmp_path / "a", folds(FIRST))
    b = write_run(tmp_path / "b", folds(SECOND), **change)
    assert _cli.main(["compare", str(a), str(b), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("pyhue compare: ")
    assert "do not train and measure on the same images" in error
    assert not (tmp_path / "out").exists()


def test_different_budgets_are_told(tmp_path):
    a = write_run(tmp_path / "a", folds(FIRST))
    longer = dataclasses.replace(TrainConfig("data"), epochs=200)
    b = write_run(tmp_path / "b", folds(SECOND), longer, steps=40, parameters=2000)
    text = " ".join(compare([a, b], tmp_path / "out").text.split())
    assert "Warning: b and a had different budgets: epochs 200 against 100, steps 40 against 20" in text
    assert "parameters 2000 against 1000" in text


def test_a_hue_layer_is_no_different_budget(tmp_path):
    a = write_run(tmp_path / "a", folds(FIRST))
    b = write_run(tmp_path / "b", folds(SECOND), parameters=1002)
    assert "Warning" not in compare([a, b], tmp_path / "out").text


def test_runs_of_the_same_name_are_told_apart_by_their_paths(tmp_path):
    for parent in ("x", "y"):
        (tmp_path / parent).mkdir()
    runs = [write_run(tmp_path / parent / "run", folds(FIRST)) for parent in ("x", "y")]
    text = compare(runs, tmp_path / "out").text
    assert str(runs[0]) in text
    assert str(runs[1]) in text


def test_wrong_runs_are_named(tmp_path):
    a = write_run(tmp_path / "a", folds(FIRST))
    unfinished = write_run(tmp_path / "unfinished", {})
    other_seed = write_run(tmp_path / "other", folds(FIRST, seed=9))
    damaged = write_run(tmp_path / "damaged", folds(FIRST))
    (damaged / "seed-0" / "fold-3" / "result.json").write_text('{"seed": 0')
    (tmp_path / "empty").mkdir()
    for second, message in {
        a: "appears twice",
        unfinished: "unfinished: no training is finished",
        other_seed: "no seed and fold in common",
        damaged: "fold-3/result.json: not the result",
        tmp_path / "empty": "not the folder of a run",
    }.items():
        with pytest.raises(ValueError, match=message):
            compare([a, second], tmp_path / "out")
    with pytest.raises(ValueError, match="at least 2"):
        compare([a], tmp_path / "out")
