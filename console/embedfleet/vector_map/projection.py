"""Vectors in two dimensions: by numpy, and by scikit-learn where neighbours shall stay together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedfleet.vector_map import Method
from embedfleet_schema.errors import ExtraMissing

# t-SNE looks at the distances of neighbours, and more dimensions only cost time. The number is that
# of van der Maaten and Hinton (2008), as is the perplexity.
_FIRST_DIMENSIONS, _PERPLEXITY = 50, 30.0
# With fewer points, the perplexity leaves nothing to place.
_LEAST = 8


def placed(vectors: NDArray[np.float32], method: Method) -> NDArray[np.float32]:
    """Each vector as a point: float32 of shape (n, 2), the same for the same vectors.

    `tsne` keeps neighbours together, and what is far apart says little. `pca` is the quick view
    from the side on which the vectors differ most.

    Raises:
        ExtraMissing: `tsne` needs scikit-learn, and that is not installed.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    count, width = directions.shape
    points = np.zeros((count, 2), dtype=np.float32)
    if method == "pca" or count < _LEAST:
        kept = min(2, count, width)
        points[:, :kept] = _principal(directions, kept)
        return points
    try:
        from sklearn.manifold import TSNE
    except ModuleNotFoundError as error:
        raise ExtraMissing(feature="A map", extra="map") from error

    first = _principal(directions, min(_FIRST_DIMENSIONS, count, width))
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    points[:] = TSNE(2, perplexity=perplexity, random_state=0).fit_transform(first)
    return points


def _principal(directions: NDArray[np.float32], kept: int) -> NDArray[np.float32]:
    """The components in which they differ most (PCA), by the smaller of the two matrices that have
    the same eigenvalues.
    """
    centred = (directions - directions.mean(axis=0)).astype(np.float64)
    count, width = centred.shape
    wide = width > count
    values, axes = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    axes = axes[:, ::-1][:, :kept]
    lengths = np.sqrt(np.maximum(values[::-1][:kept], 0))
    components = axes * lengths if wide else centred @ axes
    return np.asarray(components, dtype=np.float32)
