"""One-layer attention: a transformer on pattern data, its weight updates, and its pruning."""

from theory_sim.attention.network import Weights, attention, contributions, head, hinge, wrong
from theory_sim.attention.patterns import Sequences, Setting, draw_sequences, orthonormal_patterns
from theory_sim.attention.pruning import (
    UNIMODAL_SEPARATION,
    Groups,
    kept,
    pruned_outputs,
    pruning_ranks,
    quantiles,
    two_groups,
)
from theory_sim.attention.rates import key_angle, large_row_norm, mean_token_angle, update_rank
from theory_sim.attention.transformer import pattern_transformer
from theory_sim.attention.updates import (
    effective_rank,
    energy_outside,
    largest_angle,
)
from theory_sim.decompositions import leading_directions, orthonormal_rows, ranks

__all__ = [
    "UNIMODAL_SEPARATION",
    "Groups",
    "Sequences",
    "Setting",
    "Weights",
    "attention",
    "contributions",
    "draw_sequences",
    "effective_rank",
    "energy_outside",
    "head",
    "hinge",
    "kept",
    "key_angle",
    "large_row_norm",
    "largest_angle",
    "leading_directions",
    "mean_token_angle",
    "orthonormal_patterns",
    "orthonormal_rows",
    "pattern_transformer",
    "pruned_outputs",
    "pruning_ranks",
    "quantiles",
    "ranks",
    "two_groups",
    "update_rank",
    "wrong",
]
