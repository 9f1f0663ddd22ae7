"""Intrinsic dimension and subspace training (arXiv:1804.08838): projections, data, networks, training, laws."""

from theory_sim.subspace.codimension import CodimensionHyper, codimension_toy
from theory_sim.subspace.datasets import Dataset, digits, shuffled_labels
from theory_sim.subspace.dense import DenseProjection, dense_projection
from theory_sim.subspace.fastfood import FastfoodProjection, fastfood_projection, hadamard_transform
from theory_sim.subspace.linear_maps import Projection
from theory_sim.subspace.networks import MLP
from theory_sim.subspace.one_hot import OneHotProjection, one_hot_projection
from theory_sim.subspace.projections import PROJECTIONS
from theory_sim.subspace.rates import (
    compression,
    condition_ratio,
    gram_moments,
    mlp_parameter_count,
    projection_bytes,
    reachable_loss_law,
    unaligned,
)
from theory_sim.subspace.sparse import SparseProjection, sparse_projection
from theory_sim.subspace.tensorwise import TensorwiseProjection, tensorwise_projection
from theory_sim.subspace.training import SubspaceHyper, subspace_training

__all__ = [
    "MLP",
    "PROJECTIONS",
    "CodimensionHyper",
    "Dataset",
    "DenseProjection",
    "FastfoodProjection",
    "OneHotProjection",
    "Projection",
    "SparseProjection",
    "SubspaceHyper",
    "TensorwiseProjection",
    "codimension_toy",
    "compression",
    "condition_ratio",
    "dense_projection",
    "digits",
    "fastfood_projection",
    "gram_moments",
    "hadamard_transform",
    "mlp_parameter_count",
    "one_hot_projection",
    "projection_bytes",
    "reachable_loss_law",
    "shuffled_labels",
    "sparse_projection",
    "subspace_training",
    "tensorwise_projection",
    "unaligned",
]
