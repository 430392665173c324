"""Estimators for scikit-learn: exact neighbours, their graph for pipelines, and classification by density.

They need scikit-learn 1.6 or later: `pip install 'pyhue[sklearn]'`. Vectors are stored and compared in
float32 (`VectorMemory`): float64 input is rounded to it once, when it is fitted or asked for, and distances
are exact for the rounded values. Where features differ much in scale or lie far from zero, put a
`StandardScaler` before. Threads are those of `pyhue.set_num_threads` and threadpoolctl; there is no `n_jobs`.
"""

from pyhue.estimators._neighbors import ExactNeighbors, ExactNeighborsTransformer
from pyhue.estimators._pixel_density import PixelDensityClassifier

__all__ = ["ExactNeighbors", "ExactNeighborsTransformer", "PixelDensityClassifier"]
