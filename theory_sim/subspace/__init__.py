"""Intrinsic dimension and subspace training (arXiv:1804.08838): projections, data, networks, training, laws."""

from theory_sim.subspace.codimension import CodimensionHyper, codimension_toy
from theory_sim.subspace.datasets import Dataset, digits, shuffled_labels
from theory_sim.subspace.networks import MLP
from theory_sim.subspace.projections import (
    PROJECTIONS,
    DenseProjection,
    FastfoodProjection,
    Projection,
    dense_projection,
    fastfood_projection,
    hadamard_transform,
)
from theory_sim.subspace.rates import compression, gram_moments, mlp_parameter_count, reachable_loss_law
from theory_sim.subspace.training import SubspaceHyper, subspace_training

__all__ = [
    "MLP",
    "PROJECTIONS",
    "CodimensionHyper",
    "Dataset",
    "DenseProjection",
    "FastfoodProjection",
    "Projection",
    "SubspaceHyper",
    "codimension_toy",
    "compression",
    "dense_projection",
    "digits",
    "fastfood_projection",
    "gram_moments",
    "hadamard_transform",
    "mlp_parameter_count",
    "reachable_loss_law",
    "shuffled_labels",
    "subspace_training",
]
