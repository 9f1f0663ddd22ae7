"""Numbers that arXiv:1804.08838 published, for drawing and judging beside ours; never mixed with measured ones."""

from collections.abc import Mapping

MNIST_ACCURACY: Mapping[str, Mapping[int, float]] = {
    "fc": {
        0: 0.9811, 10: 0.1752, 50: 0.4510, 100: 0.5926, 200: 0.7584, 300: 0.8184, 350: 0.8311, 400: 0.8392,
        450: 0.8555, 500: 0.8646, 550: 0.8766, 600: 0.8802, 650: 0.8864, 700: 0.8899, 750: 0.8942, 800: 0.8996,
        850: 0.9027, 900: 0.9061, 1000: 0.9067, 1250: 0.9190, 1500: 0.9252,
    },
    "lenet": {
        0: 0.9908, 10: 0.1293, 50: 0.5697, 100: 0.7626, 150: 0.8358, 200: 0.8642, 250: 0.8867, 275: 0.8979,
        290: 0.9012, 300: 0.9030, 400: 0.9210, 500: 0.9392, 1000: 0.9628, 2000: 0.9754,
    },
}  # fmt: skip
"""Test accuracy against d (0: direct training) of 784-200-200-10, the mean of 3 seeds, and of LeNet (SU-A1-N5)."""
