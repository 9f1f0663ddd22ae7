"""Every shipped simulation lowers for every platform in both precisions, without such a device."""

import jax
import numpy as np
import pytest
from jax import export

from theory_sim import rollout
from theory_sim.attention import (
    adapted_transformer,
    benign_selection,
    margin_instances,
    pattern_transformer,
    prompt_attention,
    quadratic_head,
    regularization_path,
    relu_head,
    selection_capture,
    selection_outcome,
    support_tokens,
    task_vector_transformer,
    token_selection,
)
from theory_sim.engine.compile import numbers, split_arrays
from theory_sim.sensing import (
    asymmetric_gd,
    gauss_newton,
    prec_gd,
    scaled_gd,
    sign_field,
    subgradient,
    symmetric_gd,
    weight_normalized,
)
from theory_sim.subspace import (
    MLP,
    codimension_toy,
    digits,
    fine_tuning,
    rounded_training,
    shared_adapters,
    subspace_training,
    teacher_data,
)

SIMULATIONS = {
    "subgradient, population": lambda: subgradient(dim=6, true_rank=2, max_rank=3, start="orthogonal"),
    "subgradient, Gaussian": lambda: subgradient(dim=6, true_rank=2, max_rank=3, measurements=20),
    "subgradient, scaled": lambda: subgradient(
        dim=6, true_rank=2, max_rank=3, measurements=20, loss="l2", rule="polyak", scaled=True
    ),
    "sign_field": lambda: sign_field(dim=6, max_rank=3, measurements=20),
    "symmetric_gd, population": lambda: symmetric_gd(dim=6, true_rank=2, max_rank=3),
    "symmetric_gd, Gaussian": lambda: symmetric_gd(dim=6, true_rank=2, max_rank=3, measurements=20),
    "asymmetric_gd, population": lambda: asymmetric_gd(rows=6, cols=5, true_rank=2, max_rank=3),
    "asymmetric_gd, Gaussian": lambda: asymmetric_gd(
        rows=6, cols=5, true_rank=2, max_rank=3, measurements=20
    ),
    "scaled_gd, population": lambda: scaled_gd(dim=6, true_rank=2, max_rank=3),
    "scaled_gd, Gaussian": lambda: scaled_gd(dim=6, true_rank=2, max_rank=3, measurements=20),
    "prec_gd, population": lambda: prec_gd(dim=6, true_rank=2, max_rank=3),
    "prec_gd, Gaussian": lambda: prec_gd(dim=6, true_rank=2, max_rank=3, measurements=20),
    "gauss_newton, population": lambda: gauss_newton(dim=6, true_rank=2, max_rank=3),
    "gauss_newton, Gaussian": lambda: gauss_newton(dim=6, true_rank=2, max_rank=3, measurements=20),
    "weight_normalized, population": lambda: weight_normalized(dim=6, true_rank=2, max_rank=3),
    "weight_normalized, Gaussian": lambda: weight_normalized(dim=6, true_rank=2, max_rank=3, measurements=20),
    "pattern_transformer": lambda: pattern_transformer(
        dim=8, tokens=6, max_width=16, samples=16, test_samples=8, max_classes=3, token_pruning=True
    ),
    "pattern_transformer, fresh batches": lambda: pattern_transformer(
        dim=8,
        tokens=6,
        max_width=16,
        samples=16,
        test_samples=8,
        fresh_batches=True,
        geometry=False,
        pruning=False,
    ),
    "task_vector_transformer": lambda: task_vector_transformer(
        dim=8, tokens=6, max_width=16, samples=16, test_samples=8
    ),
    "adapted_transformer": lambda: adapted_transformer(
        dim=8, tokens=6, max_width=16, samples=16, test_samples=8, max_rank=4
    ),
    "token_selection": lambda: token_selection(inputs=2, tokens=3, dim=4, rule="polyak", nuclear=True),
    "token_selection, key and query": lambda: token_selection(
        inputs=2, tokens=3, dim=4, key_dim=2, parameterization="key_query", self_attention=True
    ),
    "benign_selection": lambda: benign_selection(inputs=4, tokens=4, test_inputs=6),
    "prompt_attention": lambda: prompt_attention(inputs=2, tokens=3, dim=4, rule="power"),
    "prompt_attention, jointly": lambda: prompt_attention(
        inputs=2, tokens=3, dim=4, joint=True, instance="planted"
    ),
    "quadratic_head": lambda: quadratic_head(tokens=4),
    "regularization_path": lambda: regularization_path(inputs=2, tokens=3, dim=4),
    "relu_head": lambda: relu_head(inputs=2, tokens=3, max_dim=4),
    "selection_capture": lambda: selection_capture(inputs=2, tokens=3, dim=4),
    "selection_outcome": lambda: selection_outcome(
        inputs=2, tokens=3, max_dim=4, parameterization="key_query"
    ),
    "margin_instances": lambda: margin_instances(
        points=6, max_inputs=3, max_tokens=3, max_dim=4, norm="nuclear"
    ),
    "margin_instances, splitting": lambda: margin_instances(
        points=6, max_inputs=3, max_tokens=3, max_dim=4, norm="nuclear", solver="splitting"
    ),
    "support_tokens": lambda: support_tokens(points=6, max_inputs=3, max_tokens=3, max_dim=4),
    "codimension_toy": lambda: codimension_toy(ambient=40, groups=4, max_dim=8),
    "shared_adapters, one-hot": lambda: shared_adapters(rows=3, cols=4, rank=2, layers=2, max_dim=7),
    "shared_adapters, VeRA": lambda: shared_adapters(
        projection="vera", rows=3, cols=4, rank=2, layers=1, max_dim=7
    ),
    "subspace_training, dense": lambda: subspace_training(MLP([4, 10]), digits(), max_dim=5),
    "subspace_training, direct": lambda: subspace_training(MLP([4, 10]), digits(), max_dim=0),
    "subspace_training, one-hot": lambda: subspace_training(
        MLP([4, 10]), digits(), max_dim=5, projection="signed_one_hot", direct=False
    ),
    "subspace_training, scaled": lambda: subspace_training(
        MLP([4, 10]), digits(), max_dim=6, structure="scaled_tensors"
    ),
    "rounded_training": lambda: rounded_training(
        MLP([4, 10]), digits(), max_dim=5, projection="signed_one_hot"
    ),
    "fine_tuning": lambda: fine_tuning(
        MLP([4, 4]), teacher_data(), teacher_data(head=1), max_dim=5, projection="sparse"
    ),
    "subspace_training, Fastfood": lambda: subspace_training(
        MLP([4, 10]), digits(), max_dim=5, projection="fastfood"
    ),
}
SMALL = 2**14
"""Bytes that a program may hold as constants: index tables, not data."""


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", SIMULATIONS)
def test_lowers_everywhere_and_holds_no_data(name, precision):
    with jax.enable_x64(precision == "float64"):
        simulation = SIMULATIONS[name]()
        arrays, merge = split_arrays(simulation)

        def block(arrays, key, setting, hyper):
            merged = merge(arrays)
            problem = merged.sample(key, setting)
            runs = jax.vmap(lambda h: rollout(merged, np.array([0, 2, 5]))(key, problem, h))(hyper)
            return runs.records, runs.conclusions

        arguments = (
            arrays,
            jax.random.key(0),
            numbers(simulation.setting, {}, ()),
            numbers(simulation.hyper, {}, (3,)),
        )
        exported = export.export(jax.jit(block), platforms=["cpu", "cuda", "tpu"])(*arguments)
        assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
        assert len(max(exported.mlir_module().splitlines(), key=len)) < 2 * SMALL
        floats = {leaf.dtype for leaf in exported.out_avals if np.issubdtype(leaf.dtype, np.floating)}
        assert floats == {np.dtype(precision)}
