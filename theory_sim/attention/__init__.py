"""One-layer attention: token selection and its max margin directions, and a transformer on pattern data."""

from theory_sim.attention.adapters import adapted_transformer
from theory_sim.attention.benign import benign_selection
from theory_sim.attention.benign_rates import (
    MeanField,
    first_boundary,
    least_label_noise,
    mean_field,
    selected_chance,
    signal_ratio,
)
from theory_sim.attention.margin import (
    MaxMargin,
    attention_margins,
    generalized_max_margin,
    max_margin,
    max_margin_of_pairs,
)
from theory_sim.attention.margin_instances import margin_instances
from theory_sim.attention.margin_rates import feasibility_inputs, largest_rank, polar_dimension, support_dim
from theory_sim.attention.network import Weights, attention, heads, hinge, neurons, wrong
from theory_sim.attention.neuron_measures import (
    at_largest,
    pruning_rise,
    small_against_large,
    width_exponent,
)
from theory_sim.attention.patterns import (
    UNBOUNDED,
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
    dead_start,
    failing_share,
    key_angle,
    mean_token_angle,
    mean_token_error,
    mean_token_samples,
    mean_token_spread,
    sampling_angle,
    sufficient_width,
    update_rank,
)
from theory_sim.attention.regularization_path import regularization_path
from theory_sim.attention.relu_head import relu_head
from theory_sim.attention.selection_capture import selection_capture
from theory_sim.attention.selection_outcome import selection_outcome
from theory_sim.attention.selection_rates import (
    PUBLISHED_COUNTS,
    PUBLISHED_ERRORS,
    direction_error_curve,
    gradient_excess_loss,
    gradient_norm_slope,
    normalized_loss_rate,
    normalized_norm,
    polyak_loss_rate,
    polyak_norm,
    stall_norm,
    untouched_start,
)
from theory_sim.attention.splitting import nuclear_splitting
from theory_sim.attention.support_tokens import support_tokens
from theory_sim.attention.task_vector import task_vector_transformer
from theory_sim.attention.task_vector_measures import (
    early_residual,
    late_against_early,
    norm_at_largest_start,
    norm_by_start,
    residual_against_loss,
    residual_times_log,
)
from theory_sim.attention.task_vector_rates import (
    EARLY_LOSS,
    attention_residual,
    dead_fraction,
    residual_bound,
    value_residual,
)
from theory_sim.attention.token_pruning import outputs_without, removals, removed_counts
from theory_sim.attention.token_selection import attention_weights, token_selection
from theory_sim.attention.transformer import pattern_transformer
from theory_sim.attention.update_measures import (
    active_angle,
    class_ranks,
    energy_along_training,
    irrelevant_response,
    spectral_gap,
    unequal_response,
)
from theory_sim.attention.updates import (
    effective_rank,
    energy_outside,
    principal_angles,
    stable_rank,
)
from theory_sim.decompositions import leading_directions, orthonormal_rows, sort_places

__all__ = [
    "EARLY_LOSS",
    "PUBLISHED_COUNTS",
    "PUBLISHED_ERRORS",
    "UNBOUNDED",
    "UNIMODAL_SEPARATION",
    "Groups",
    "HeadMargin",
    "MaxMargin",
    "MeanField",
    "PromptMargin",
    "Sequences",
    "Setting",
    "Weights",
    "active_angle",
    "adapted_transformer",
    "at_largest",
    "attention",
    "attention_margins",
    "attention_residual",
    "attention_weights",
    "benign_selection",
    "class_ranks",
    "confusion_constant",
    "dead_fraction",
    "dead_start",
    "direction_error_curve",
    "draw_data",
    "draw_sequences",
    "early_residual",
    "effective_rank",
    "elapsed",
    "energy_along_training",
    "energy_outside",
    "equicorrelated",
    "failing_share",
    "feasibility_inputs",
    "first_boundary",
    "generalized_max_margin",
    "gradient_excess_loss",
    "gradient_norm_slope",
    "head_max_margin",
    "heads",
    "hinge",
    "irrelevant_response",
    "joint_log_loss",
    "kept",
    "key_angle",
    "largest_rank",
    "late_against_early",
    "leading_directions",
    "least_label_noise",
    "local_share",
    "margin_instances",
    "max_margin",
    "max_margin_of_pairs",
    "mean_field",
    "mean_token_angle",
    "mean_token_error",
    "mean_token_samples",
    "mean_token_spread",
    "neurons",
    "norm_at_largest_start",
    "norm_by_start",
    "normalized_loss_rate",
    "normalized_norm",
    "nuclear_splitting",
    "orthonormal_rows",
    "outputs_without",
    "path_norm_slope",
    "pattern_transformer",
    "polar_dimension",
    "polyak_loss_rate",
    "polyak_norm",
    "principal_angles",
    "prompt_attention",
    "prompt_max_margin",
    "pruned_outputs",
    "pruning_ranks",
    "pruning_rise",
    "quadratic_head",
    "quantiles",
    "regularization_path",
    "relu_head",
    "removals",
    "removed_counts",
    "residual_against_loss",
    "residual_bound",
    "residual_times_log",
    "sampling_angle",
    "score_lead",
    "selected_chance",
    "selection_capture",
    "selection_outcome",
    "signal_ratio",
    "small_against_large",
    "sort_places",
    "spectral_gap",
    "stable_rank",
    "stall_norm",
    "sufficient_width",
    "support_dim",
    "support_tokens",
    "task_vector_transformer",
    "token_selection",
    "two_groups",
    "unequal_response",
    "untouched_start",
    "update_rank",
    "value_residual",
    "width_exponent",
    "wrong",
]
