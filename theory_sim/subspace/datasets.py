"""Labelled examples as four numpy arrays, ready for `subspace_training`.

No download: the UCI digits ship inside scikit-learn, teachers are drawn; MNIST's files have a room of their own.
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


def shuffled_pixels(data: Dataset, *, seed: int = 0) -> Dataset:
    """Return the same images with all pixels moved by one permutation: as hard for a network without locality.

    The permutation is the same for every image, of both sets, and moves all axes of an example together.
    Source: the shuffled-pixel experiment of arXiv:1804.08838.
    """
    shape = data.train_x.shape[1:]
    order = np.random.default_rng(seed).permutation(int(np.prod(shape)))
    train_x, test_x = (
        x.reshape(len(x), -1)[:, order].reshape(-1, *shape) for x in (data.train_x, data.test_x)
    )
    return data._replace(train_x=train_x, test_x=test_x)


def teacher_data(
    *,
    dim: int = 20,
    hidden: int = 8,
    classes: int = 4,
    train: int = 2000,
    test: int = 1000,
    features: int = 0,
    head: int = 0,
    likeness: float = 0.0,
) -> Dataset:
    """Return Gaussian inputs [count, dim] labelled by a random network of one hidden layer.

    The label is the largest entry of `V (relu(W x) - E relu(W x))`, W [hidden, dim] with orthonormal rows and V
    [classes, hidden] Gaussian with rows of unit norm, so that classes are about equally frequent. W and the inputs
    are drawn from the seed `features`, V from `head`. With `likeness` c it is `c V_0 + sqrt(1 - c^2) V` instead, V_0
    being head 0 of the same features: a task related to that one's, and the same at c = 1.
    Raises ValueError unless all sizes are at least 1, classes at least 2, hidden <= dim and 0 <= likeness <= 1.
    """
    sizes = {"dim": dim, "hidden": hidden, "classes": classes - 1, "train": train, "test": test}
    if min(sizes.values()) < 1 or hidden > dim:
        raise ValueError(
            f"teacher_data needs sizes of at least 1, two classes and hidden <= dim, got {sizes}"
        )
    if not 0 <= likeness <= 1:
        raise ValueError(f"likeness must lie between 0 and 1, got {likeness}")
    generator = np.random.default_rng([features, 0])
    first = np.linalg.qr(generator.normal(size=(dim, hidden)))[0]
    shared, own = (
        rows / np.linalg.norm(rows, axis=0)
        for rows in (
            np.random.default_rng([features, 1, h]).normal(size=(hidden, classes)) for h in (0, head)
        )
    )
    second = likeness * shared + np.sqrt(1 - likeness**2) * own
    x = generator.normal(size=(train + test, dim))
    labels = np.argmax((np.maximum(x @ first, 0) - 1 / np.sqrt(2 * np.pi)) @ second, axis=1)
    return Dataset(x[:train], labels[:train], x[train:], labels[train:])
