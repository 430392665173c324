"""`pyhue descriptors`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyhue._arrays import positive_integer
from pyhue._cli.common import Commands, add_command, require, show
from pyhue._cli.data import add_image_options, features_of


def add_parser(commands: Commands) -> None:
    """Declares the command and its options."""
    parser = add_command(
        commands,
        "descriptors",
        "classify images by their neighbours, with pixel vectors and with descriptors",
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="folder with one folder for each class, or a features file"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the tables go")
    parser.add_argument("-k", type=int, default=10, metavar="K", help="neighbours of each vector")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="parts that take turns as queries")
    parser.add_argument("--pca", type=int, metavar="DIMS", help="principal components kept of each vector")
    parser.add_argument("--exact-only", action="store_true", help="leave out FAISS's and Annoy's indexes")
    add_image_options(parser, needed=False)


def run(options: argparse.Namespace) -> int:
    """Prints the tables and writes them to `descriptors.md` and `descriptors.csv`."""
    require("sklearn", "PIL")
    from pyhue._files.atomic import make_folder, require_folder, write_atomically
    from pyhue.images import stratified_folds

    require_folder(options.out)  # an hour before the tables are written
    k, folds = positive_integer(options.k, "k"), positive_integer(options.folds, "folds", smallest=2)
    seed, pca = options.seed, options.pca
    if pca is not None:
        positive_integer(pca, "pca")
    features = features_of(
        options, options.out, lambda labels, classes: stratified_folds(labels, folds, seed, classes)
    )
    from pyhue._files.tables import write_csv
    from pyhue.descriptors import evaluate
    from pyhue.descriptors._rivals import rivals
    from pyhue.descriptors._tables import as_text, columns

    results = evaluate(features, k, folds, seed, pca)
    others = ([], []) if options.exact_only else rivals(features, k, folds, seed, pca)
    text = as_text(results, *others)
    make_folder(options.out)
    write_atomically(options.out / "descriptors.md", f"{text}\n")
    names, rows = columns(results)
    write_csv(options.out / "descriptors.csv", names, rows)
    values = {
        "descriptors": [dict(zip(names, row, strict=True)) for row in rows],
        "indexes": [rival._asdict() | {"correct": rival.correct.mean()} for rival in others[0]],
        "missing": others[1],
    }
    show(options, text, values)
    return 0
