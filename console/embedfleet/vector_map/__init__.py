"""A collection as a picture: its vectors in two dimensions."""

from typing import Literal

Method = Literal["tsne", "pca"]
