"""Labelled images as four numpy arrays, ready for `subspace_training`.

No download: the UCI digits ship inside scikit-learn.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Dataset(NamedTuple):
    """Training and test examples; features of one example may have any shape, labels are 0 .. classes - 1."""

    train_x: Float[np.ndarray, "train ..."]
    train_y: Int[np.ndarray, " train"]
    test_x: Float[np.ndarray, "test ..."]
    test_y: Int[np.ndarray, " test"]


def digits(*, test_fraction: float = 0.25, seed: int = 0) -> Dataset:
    """Return the 1797 UCI digits as 64 pixels in [0, 1] (grey levels 0..16 divided by 16), ten classes.

    The split keeps the class proportions (each class gives `test_fraction` of its images, rounded) and depends on
    `seed` alone. Raises ImportError when scikit-learn is absent, ValueError unless 0 < test_fraction < 1.
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie strictly between 0 and 1, got {test_fraction}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn; install it with: pip install 'theory_sim[data]'"
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    generator = np.random.default_rng(seed)
    is_test = np.zeros(labels.size, dtype=bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        is_test[members[: round(test_fraction * members.size)]] = True
    pixels = pixels / 16.0
    return Dataset(pixels[~is_test], labels[~is_test], pixels[is_test], labels[is_test])


def shuffled_labels(data: Dataset, *, seed: int = 0) -> Dataset:
    """Return the same images with the training labels permuted: nothing is left to learn, only to memorise.

    Test labels stay, so that test accuracy is at chance. Source: the shuffled-label experiment of
    arXiv:1804.08838.
    """
    order = np.random.default_rng(seed).permutation(len(data.train_y))
    return data._replace(train_y=data.train_y[order])
