"""Max margin solutions, against CVXPY with an interior-point solver, their certificates, and what must not matter."""

from functools import partial

import cvxpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax import export

from theory_sim.attention import attention_margins, generalized_max_margin, max_margin, prompt_max_margin
from theory_sim.attention.margin import NORMS

SEEDS = st.integers(0, 2**31 - 1)
SHAPES = [(3, 4, 2), (5, 5, 3), (2, 3, 6)]
"""Samples, tokens, dim: feasible at times, mostly, and always, with more dimensions than constraints."""
BATCH = 6
SIDE_BY_SIDE = settings(max_examples=4)
# A relative gap g leaves sqrt(2 g) of the Frobenius weights open: the default 1e-8 of the reference would not do.
CLARABEL = {"solver": cvxpy.CLARABEL, "tol_gap_rel": 1e-12, "tol_gap_abs": 1e-12, "tol_feas": 1e-11}
CLARABEL_NUCLEAR = {"solver": cvxpy.CLARABEL, "tol_gap_rel": 1e-10, "tol_gap_abs": 1e-10, "tol_feas": 1e-9}
"""A semidefinite problem, of which the reference does not get more."""


def instances(seed, shape, count=BATCH):
    rng = np.random.default_rng(seed)
    samples, tokens, dim = shape
    x, z = rng.normal(size=(count, samples, tokens, dim)), rng.normal(size=(count, samples, dim))
    x, z = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (x, z))
    return x, z, rng.integers(tokens, size=(count, samples))


@partial(jax.jit, static_argnames="norm")
def solve_all(tokens, queries, selected, norm):
    return jax.vmap(partial(max_margin, norm=norm))(tokens, queries, selected)


def solved(instances, norm):
    batch = jax.tree.map(np.asarray, solve_all(*instances, norm=norm))
    return [jax.tree.map(lambda leaf: leaf[i], batch) for i in range(len(batch.gap))]  # noqa: B023


def differences(tokens, place):
    return [tokens[place] - tokens[t] for t in range(len(tokens)) if t != place]


def reference(tokens, queries, selected, norm):
    """Return the optimal value, infinite where infeasible, and the weights, by CVXPY and CLARABEL."""
    weights = cvxpy.Variable((tokens.shape[-1], tokens.shape[-1]))
    objective = cvxpy.sum_squares(weights) if norm == "frobenius" else cvxpy.normNuc(weights)
    rows = [
        np.outer(difference, query).ravel(order="F")
        for x, query, place in zip(tokens, queries, selected, strict=True)
        for difference in differences(x, place)
    ]
    constraint = np.array(rows) @ cvxpy.vec(weights, order="F") >= 1
    problem = cvxpy.Problem(cvxpy.Minimize(objective), [constraint])
    value = problem.solve(**(CLARABEL if norm == "frobenius" else CLARABEL_NUCLEAR))
    return value if norm == "nuclear" else np.sqrt(value), weights.value


def norm_of(weights, norm):
    values = np.linalg.svd(weights)[1]
    return np.linalg.norm(values) if norm == "frobenius" else values.sum()


def dual_matrix(dual, tokens, queries, selected):
    return sum(
        dual[i, t] * np.outer(tokens[i, selected[i]] - tokens[i, t], queries[i])
        for i in range(tokens.shape[0])
        for t in range(tokens.shape[1])
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
@SIDE_BY_SIDE
@given(seed=SEEDS)
def test_agrees_with_cvxpy_on_feasibility_value_and_weights(shape, norm, seed):
    drawn = instances(seed, shape)
    for instance, found in zip(zip(*drawn, strict=True), solved(drawn, norm), strict=True):
        value, weights = reference(*instance, norm)
        if found.feasible and norm_of(found.weights, norm) > 1e4:
            continue  # a margin too small for the reference to be one
        assert found.feasible == np.isfinite(value)
        if found.feasible:
            assert norm_of(found.weights, norm) == pytest.approx(value, rel=1e-6)
            np.testing.assert_allclose(found.weights, weights, atol=1e-5 * value)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [*SHAPES, (6, 8, 10)])
@SIDE_BY_SIDE
@given(seed=SEEDS)
def test_certificates_hold_by_themselves(shape, norm, seed):
    drawn = instances(seed, shape)
    for instance, found in zip(zip(*drawn, strict=True), solved(drawn, norm), strict=True):
        tokens, queries, selected = instance
        combined = dual_matrix(found.dual, *instance)
        assert found.dual.min() >= 0
        assert np.all(found.dual[np.arange(len(selected)), selected] == 0)
        if not found.feasible:
            assert found.dual.sum() == pytest.approx(1)
            assert np.linalg.norm(combined) <= 1e-7
            assert found.gap <= 1e-7
            continue
        margins = np.array(attention_margins(found.weights, tokens, queries, selected))
        margins[np.arange(len(selected)), selected] = np.inf
        assert margins.min() == pytest.approx(1, abs=1e-9)
        dual_norm = np.linalg.norm(combined) if norm == "frobenius" else np.linalg.norm(combined, 2)
        assert dual_norm == pytest.approx(1, abs=1e-9)
        size = norm_of(found.weights, norm)
        assert found.gap <= 1e-8
        assert 1 - found.dual.sum() / size <= found.gap + 1e-12
        assert (
            np.sum(np.linalg.svd(found.weights)[1] > 1e-5 * norm_of(found.weights, "nuclear")) == found.rank
        )
        assert found.rank <= found.rank_bound <= min(tokens.shape[0], tokens.shape[2])


def test_nuclear_weights_have_lower_rank_and_a_rank_that_is_certified():
    drawn = instances(0, (6, 8, 10))
    frobenius, nuclear = (solved(drawn, norm) for norm in NORMS)
    assert np.mean([found.rank for found in frobenius]) > 5.5
    assert np.mean([found.rank for found in nuclear]) < 4
    assert [found.rank for found in nuclear] == [found.rank_bound for found in nuclear]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [*SHAPES, (6, 8, 10)])
@SIDE_BY_SIDE
@given(seed=SEEDS)
def test_weights_turn_with_the_data_and_shrink_where_it_grows(shape, norm, seed):
    tokens, queries, selected = instances(seed, shape)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(shape[2], shape[2])))[0]
    plain = solve_all(tokens, queries, selected, norm=norm)
    turned = solve_all(tokens @ turn, queries @ turn, selected, norm=norm)
    # x -> x c scales (x - x')^T W z by c, and so does z -> z c: W is divided by each of the two factors.
    scaled = solve_all(5.0 * tokens, 0.25 * queries, selected, norm=norm)
    sizes = np.array([norm_of(weights, norm) for weights in plain.weights])
    # A margin that is almost none is known to fewer digits, and so is whether there is one.
    clear = (sizes < 1e4) & np.asarray(plain.feasible)
    assert clear.any() or shape == SHAPES[0]
    # With fewer constraints than dimensions the nuclear optimum is rarely degenerate, but it need not be unique.
    tolerance = 1e-6 if norm == "frobenius" else 1e-4
    back = turn @ turned.weights @ turn.T
    for found, same in ((turned, back), (scaled, 1.25 * scaled.weights)):
        hopeless = ~np.asarray(plain.feasible)
        assert not np.any(np.asarray(found.feasible) & hopeless)
        assert np.all(np.asarray(found.feasible)[clear])
        values = np.array([norm_of(weights, norm) for weights in same])
        np.testing.assert_allclose(values[clear] / sizes[clear], 1, atol=1e-8)
        difference = (same - plain.weights)[clear] / sizes[clear, None, None]
        np.testing.assert_allclose(difference, 0, atol=tolerance)


@pytest.mark.parametrize("norm", NORMS)
def test_a_batch_is_its_instances_whatever_else_is_in_it(norm):
    tokens, queries, selected = instances(3, (3, 4, 2))
    hopeless, broken = tokens.copy(), tokens.copy()
    hopeless[1], broken[1] = 1.0, np.nan
    alone = [max_margin(*one, norm=norm) for one in zip(tokens, queries, selected, strict=True)]
    assert {bool(one.feasible) for one in alone} == {True, False}
    for batch in (tokens, hopeless, broken):
        together = solve_all(batch, queries, selected, norm=norm)
        for i in (0, 2, 3, 4, 5):
            assert together.feasible[i] == alone[i].feasible
            np.testing.assert_allclose(together.weights[i], alone[i].weights, rtol=1e-6, atol=1e-6)
    assert not together.feasible[1]
    assert np.isnan(together.gap[1])


@pytest.mark.parametrize("norm", NORMS)
def test_degenerate_data_are_solved_or_refused(norm):
    tokens, queries, selected = instances(5, (2, 3, 6))
    queries[0, 1] = queries[0, 0]
    tokens[1, :, 1], selected[1] = tokens[1, :, 2], 0
    tokens[2, :, 1], selected[2] = tokens[2, :, 2], 1
    tokens[3] = 1.0
    found = solved((tokens, queries, selected), norm)
    assert [bool(one.feasible) for one in found] == [True, True, False, False, True, True]
    assert max(one.gap for one in found) < 1e-8
    assert found[0].rank == 1
    assert np.all(found[2].weights == 0)


@pytest.mark.parametrize("shape", [(3, 4, 2), (3, 4, 6)])
@SIDE_BY_SIDE
@given(seed=SEEDS)
def test_generalized_problem_agrees_with_cvxpy(shape, seed):
    tokens, queries, places = (a[0] for a in instances(seed, shape))
    selected = np.random.default_rng(seed).random(shape[:2]) < 0.4
    selected[np.arange(shape[0]), places] = True
    selected[0] = np.arange(shape[1]) < 2
    found = generalized_max_margin(tokens, queries, selected)
    weights = cvxpy.Variable((shape[2], shape[2]))
    constraints = []
    for x, query, chosen in zip(tokens, queries, selected, strict=True):
        scores = x @ weights @ query
        first = np.argmax(chosen)
        constraints += [scores[t] == scores[first] for t in np.flatnonzero(chosen)[1:]]
        constraints += [scores[first] - scores[t] >= 1 for t in np.flatnonzero(~chosen)]
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(weights)), constraints)
    value = np.sqrt(problem.solve(**CLARABEL))
    assert bool(found.feasible) == np.isfinite(value)
    if found.feasible:
        assert found.gap < 1e-8
        assert np.linalg.norm(found.weights) == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(found.weights, weights.value, atol=1e-5 * value)
        scores = np.einsum("ntd,de,ne->nt", tokens, found.weights, queries)
        firsts = np.argmax(selected, axis=1)[:, None]
        gaps = np.take_along_axis(scores, firsts, axis=1) - scores
        np.testing.assert_allclose(gaps[selected], 0, atol=1e-8 * value)
        assert gaps[~selected].min() == pytest.approx(1)
        assert np.all(np.asarray(found.dual)[selected] == 0)
        assert found.dual.sum() / value == pytest.approx(1, abs=1e-6)


def test_generalized_problem_with_one_token_each_is_the_plain_one():
    tokens, queries, selected = (a[0] for a in instances(1, (2, 3, 6)))
    plain, general = (
        max_margin(tokens, queries, selected),
        generalized_max_margin(tokens, queries, np.arange(3) == selected[:, None]),
    )
    for one, other in zip(plain, general, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    everything = jax.jit(generalized_max_margin)(tokens, queries, np.ones((2, 3), bool))
    assert everything.feasible
    assert np.all(everything.weights == 0)


@pytest.mark.parametrize("shape", [(3, 3, 3), (2, 3, 6)])
@SIDE_BY_SIDE
@given(seed=SEEDS)
def test_prompt_agrees_with_cvxpy(shape, seed):
    keys, _, selected = (a[0] for a in instances(seed, shape))
    found = prompt_max_margin(keys, selected)
    prompt = cvxpy.Variable(shape[2])
    rows = np.concatenate([differences(x, place) for x, place in zip(keys, selected, strict=True)])
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(prompt)), [rows @ prompt >= 1])
    value = np.sqrt(problem.solve(**CLARABEL))
    assert bool(found.feasible) == np.isfinite(value)
    if found.feasible:
        assert found.gap < 1e-8
        assert np.linalg.norm(found.prompt) == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(found.prompt, prompt.value, atol=1e-5 * value)


TOKENS, QUERIES, SELECTED = np.ones((2, 3, 4)), np.ones((2, 4)), np.array([0, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: max_margin(TOKENS, QUERIES, SELECTED, norm="spectral"),
            "norm must be one of frobenius, nuclear",
        ),
        (lambda: max_margin(TOKENS, QUERIES, [0, 3]), "selected must lie between 0 and 2, got 3"),
        (lambda: max_margin(TOKENS, QUERIES, [-1, 0]), "selected must lie between 0 and 2, got -1"),
        (lambda: max_margin(TOKENS, QUERIES, [0.0, 1.0]), "selected must be 2 whole numbers"),
        (lambda: max_margin(TOKENS, QUERIES, [0]), "selected must be 2 whole numbers"),
        (lambda: max_margin(TOKENS[:, :1], QUERIES, SELECTED), "tokens must have shape .* 2 tokens"),
        (
            lambda: max_margin(TOKENS[..., :0], QUERIES[:, :0], SELECTED),
            "tokens must have shape .* at least 1 dim",
        ),
        (lambda: max_margin(TOKENS, QUERIES[:, :3], SELECTED), r"queries must have shape \(2, 4\)"),
        (
            lambda: max_margin(TOKENS, QUERIES * [[1], [0]], SELECTED),
            "queries must not be zero, .* sequence 1",
        ),
        (
            lambda: max_margin(TOKENS * np.nan, QUERIES, SELECTED),
            r"tokens must be finite, got nan at \(0, 0, 0\)",
        ),
        (lambda: generalized_max_margin(TOKENS, QUERIES, SELECTED), "selected must be booleans of shape"),
        (
            lambda: generalized_max_margin(TOKENS, QUERIES, TOKENS[..., 0] > 0),
            "selected must leave a token out",
        ),
        (lambda: generalized_max_margin(TOKENS, QUERIES, TOKENS[..., 0] > 2), "got none in sequence 0"),
        (lambda: prompt_max_margin(TOKENS[0], SELECTED), "keys must have shape"),
        (lambda: prompt_max_margin(TOKENS[..., :0], SELECTED), "keys must have shape .* at least 1 dim"),
        (lambda: prompt_max_margin(TOKENS * np.inf, SELECTED), "keys must be finite, got inf"),
    ],
)
def test_a_wrong_instance_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_shapes_are_checked_under_transformations():
    with pytest.raises(ValueError, match="queries must have shape"):
        jax.jit(max_margin)(TOKENS, QUERIES[:1], SELECTED)


@pytest.mark.parametrize("place", [-1, -4, 3, 2**31 - 1])
def test_a_token_that_does_not_exist_is_not_feasible_where_it_cannot_be_refused(place):
    tokens, queries, selected = (a[0] for a in instances(1, (2, 3, 6)))
    for solve in (
        *(partial(max_margin, tokens, queries, norm=norm) for norm in NORMS),
        partial(prompt_max_margin, tokens),
        lambda chosen: prompt_max_margin(tokens, chosen, jnp.array([1.0, 0.0])),
    ):
        solve = jax.jit(solve)  # noqa: PLW2901
        assert solve(jnp.asarray(selected)).feasible
        found = solve(jnp.asarray(selected).at[0].set(place))
        assert not found.feasible
        assert np.isnan(found.gap)
    margins = attention_margins(np.eye(6), tokens, queries, jnp.array([place, 0]))
    assert np.all(np.isnan(margins[0]))
    assert np.all(np.isfinite(margins[1]))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_lowers_everywhere(norm, precision):
    with jax.enable_x64(precision == "float64"):
        arguments = [jnp.asarray(a, precision) for a in (TOKENS, QUERIES)]
        solve = jax.jit(jax.vmap(partial(max_margin, norm=norm)))
        batch = [a[None] for a in (*arguments, jnp.asarray(SELECTED))]
        exported = export.export(solve, platforms=["cpu", "cuda", "tpu"])(*batch)
        assert exported.out_avals[0].dtype == precision
