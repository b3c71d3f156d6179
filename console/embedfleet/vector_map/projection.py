"""Vectors in two dimensions, by scikit-learn."""

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
        ExtraMissing: scikit-learn is not installed.
    """
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ModuleNotFoundError as error:
        raise ExtraMissing(feature="A map", extra="map") from error

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    count, width = directions.shape
    points = np.zeros((count, 2), dtype=np.float32)
    if method == "pca" or count < _LEAST:
        kept = min(2, count, width)
        points[:, :kept] = PCA(kept, random_state=0).fit_transform(directions) if count > 1 else 0
        return points
    kept = min(_FIRST_DIMENSIONS, count, width)
    first = PCA(kept, random_state=0).fit_transform(directions)
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    points[:] = TSNE(2, perplexity=perplexity, random_state=0).fit_transform(first)
    return points
