"""Digits: their split, shuffled labels, and what is said without scikit-learn."""

import numpy as np
import pytest

from theory_sim.subspace import digits, shuffled_labels


def test_digits_are_split_by_class_for_ever():
    data = digits()
    assert [len(a) for a in data] == [1347, 1347, 450, 450]
    assert data.train_x.shape == (1347, 64)
    assert data.train_x.min() == 0
    assert data.train_x.max() == 1
    whole, test = np.bincount(np.concatenate([data.train_y, data.test_y])), np.bincount(data.test_y)
    assert np.all(np.abs(test - whole / 4) <= 0.5)
    np.testing.assert_array_equal(data.test_x, digits().test_x)
    assert not np.array_equal(data.test_x, digits(seed=1).test_x)
    joined = {image.tobytes() for image in data.train_x} & {image.tobytes() for image in data.test_x}
    assert not joined


def test_shuffled_labels_keep_the_counts_and_the_test_set():
    data, shuffled = digits(), shuffled_labels(digits())
    np.testing.assert_array_equal(np.bincount(data.train_y), np.bincount(shuffled.train_y))
    assert np.mean(data.train_y == shuffled.train_y) < 0.2
    np.testing.assert_array_equal(data.test_y, shuffled.test_y)


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"theory_sim\[data\]"):
        digits()
    with pytest.raises(ValueError, match="test_fraction must lie strictly between 0 and 1, got 1"):
        digits(test_fraction=1)
