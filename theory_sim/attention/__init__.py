"""One-layer attention: token selection and its max margin directions, and a transformer on pattern data."""

from theory_sim.attention.adapters import adapted_transformer
from theory_sim.attention.margin import (
    MaxMargin,
    attention_margins,
    generalized_max_margin,
    max_margin,
    max_margin_of_pairs,
)
from theory_sim.attention.margin_instances import margin_instances
from theory_sim.attention.margin_rates import feasibility_inputs, largest_rank, polar_dimension
from theory_sim.attention.network import Weights, attention, heads, hinge, neurons, wrong
from theory_sim.attention.patterns import (
    Sequences,
    Setting,
    draw_data,
    draw_sequences,
    equicorrelated,
)
from theory_sim.attention.prompt import prompt_attention
from theory_sim.attention.prompt_margin import (
    HeadMargin,
    PromptMargin,
    head_max_margin,
    prompt_max_margin,
)
from theory_sim.attention.prompt_rates import (
    elapsed,
    joint_log_loss,
    local_share,
    path_norm_slope,
    score_lead,
)
from theory_sim.attention.pruning import (
    UNIMODAL_SEPARATION,
    Groups,
    kept,
    pruned_outputs,
    pruning_ranks,
    quantiles,
    two_groups,
)
from theory_sim.attention.quadratic_head import quadratic_head
from theory_sim.attention.rates import (
    confusion_constant,
    key_angle,
    large_row_norm,
    mean_token_angle,
    mean_token_error,
    sufficient_width,
    update_rank,
)
from theory_sim.attention.selection_capture import selection_capture
from theory_sim.attention.selection_outcome import selection_outcome
from theory_sim.attention.selection_rates import (
    direction_error_curve,
    gradient_excess_loss,
    gradient_norm_slope,
    normalized_loss_rate,
    normalized_norm,
    polyak_loss_rate,
    polyak_norm,
    stall_norm,
)
from theory_sim.attention.token_pruning import outputs_without, removals, removed_counts
from theory_sim.attention.token_selection import attention_weights, token_selection
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
    "HeadMargin",
    "MaxMargin",
    "PromptMargin",
    "Sequences",
    "Setting",
    "Weights",
    "adapted_transformer",
    "attention",
    "attention_margins",
    "attention_weights",
    "confusion_constant",
    "direction_error_curve",
    "draw_data",
    "draw_sequences",
    "effective_rank",
    "elapsed",
    "energy_outside",
    "equicorrelated",
    "feasibility_inputs",
    "generalized_max_margin",
    "gradient_excess_loss",
    "gradient_norm_slope",
    "head_max_margin",
    "heads",
    "hinge",
    "joint_log_loss",
    "kept",
    "key_angle",
    "large_row_norm",
    "largest_angle",
    "largest_rank",
    "leading_directions",
    "local_share",
    "margin_instances",
    "max_margin",
    "max_margin_of_pairs",
    "mean_token_angle",
    "mean_token_error",
    "neurons",
    "normalized_loss_rate",
    "normalized_norm",
    "orthonormal_rows",
    "outputs_without",
    "path_norm_slope",
    "pattern_transformer",
    "polar_dimension",
    "polyak_loss_rate",
    "polyak_norm",
    "prompt_attention",
    "prompt_max_margin",
    "pruned_outputs",
    "pruning_ranks",
    "quadratic_head",
    "quantiles",
    "ranks",
    "removals",
    "removed_counts",
    "score_lead",
    "selection_capture",
    "selection_outcome",
    "stall_norm",
    "sufficient_width",
    "token_selection",
    "two_groups",
    "update_rank",
    "wrong",
]
