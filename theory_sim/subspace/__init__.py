"""Intrinsic dimension and subspace training (arXiv:1804.08838): projections, data, networks, training, laws."""

from theory_sim.subspace.codimension import CodimensionHyper, codimension_toy
from theory_sim.subspace.datasets import Dataset, digits, shuffled_labels, shuffled_pixels, teacher_data
from theory_sim.subspace.dense import DenseProjection, dense_projection
from theory_sim.subspace.dimension import (
    description_length,
    intrinsic_dimension,
    log_dimension_ratio,
    solution_dimensions,
    solved_dimension,
)
from theory_sim.subspace.fastfood import FastfoodProjection, fastfood_projection, hadamard_transform
from theory_sim.subspace.finetuning import FineTuningHyper, fine_tuning
from theory_sim.subspace.generalization import RoundedHyper, generalization_bound, rounded_training
from theory_sim.subspace.linear_maps import Projection
from theory_sim.subspace.lora import VeraProjection, shared_adapters, vera_projection
from theory_sim.subspace.mnist import missing_mnist, mnist
from theory_sim.subspace.networks import MLP, LeNet, parameter_count
from theory_sim.subspace.one_hot import OneHotProjection, one_hot_projection
from theory_sim.subspace.projections import PROJECTIONS
from theory_sim.subspace.rates import (
    adapter_spread,
    compression,
    condition_ratio,
    fastfood_loss_law,
    gram_moments,
    mlp_parameter_count,
    projection_bytes,
    reachable_loss_law,
    unaligned,
)
from theory_sim.subspace.rotations import orthonormal_projection
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
    "FineTuningHyper",
    "LeNet",
    "OneHotProjection",
    "Projection",
    "RoundedHyper",
    "SparseProjection",
    "SubspaceHyper",
    "TensorwiseProjection",
    "VeraProjection",
    "adapter_spread",
    "codimension_toy",
    "compression",
    "condition_ratio",
    "dense_projection",
    "description_length",
    "digits",
    "fastfood_loss_law",
    "fastfood_projection",
    "fine_tuning",
    "generalization_bound",
    "gram_moments",
    "hadamard_transform",
    "intrinsic_dimension",
    "log_dimension_ratio",
    "missing_mnist",
    "mlp_parameter_count",
    "mnist",
    "one_hot_projection",
    "orthonormal_projection",
    "parameter_count",
    "projection_bytes",
    "reachable_loss_law",
    "rounded_training",
    "shared_adapters",
    "shuffled_labels",
    "shuffled_pixels",
    "solution_dimensions",
    "solved_dimension",
    "sparse_projection",
    "subspace_training",
    "teacher_data",
    "tensorwise_projection",
    "unaligned",
    "vera_projection",
]
