"""A quadratic head: the optimal attention by another solver, the gradient by autodiff, and what is selected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from theory_sim.attention import quadratic_head
from theory_sim.attention.quadratic_head import Hyper, optimal_attention, selected_tokens
from theory_sim.simulation import rollout


@pytest.mark.parametrize("penalty", [0.05, 0.3, 1.0, 5.0])
def test_optimal_attention_is_that_of_a_general_solver(penalty):
    for seed in range(3):
        scores = np.random.default_rng(seed).normal(size=6)
        found = minimize(
            lambda s: penalty * s @ s - scores @ s,  # noqa: B023
            np.full(6, 1 / 6),
            jac=lambda s: 2 * penalty * s - scores,  # noqa: B023
            bounds=[(0, 1)] * 6,
            constraints={"type": "eq", "fun": lambda s: s.sum() - 1},
            tol=1e-12,
        )
        best = optimal_attention(jnp.asarray(scores), penalty)
        np.testing.assert_allclose(best, found.x, atol=1e-6)
        assert np.sum(best) == pytest.approx(1)
        assert int(selected_tokens(jnp.asarray(scores), penalty)) == np.sum(np.asarray(best) > 0)


def test_steps_descend_the_loss_of_weights():
    """In full: tokens are rows of a rotation, and weights, not logits, are trained."""
    rng = np.random.default_rng(0)
    tokens = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    query = rng.normal(size=5) / 1.0
    query /= np.linalg.norm(query)
    head = rng.normal(size=5)
    penalty, size = 0.4, 0.7

    def loss(weights):
        output = tokens.T @ jax.nn.softmax(tokens @ weights @ query)
        return -(head @ output - penalty * output @ output)

    gradient = jax.jit(jax.grad(loss))
    weights, logits = jnp.zeros((5, 5)), jnp.zeros(5)
    simulation, scores = quadratic_head(tokens=5), jnp.asarray(tokens @ head)
    for _ in range(20):
        weights = weights - size * gradient(weights)
        logits = simulation.step(None, scores, Hyper(size, penalty), logits)
    np.testing.assert_allclose(tokens @ weights @ query, logits, atol=1e-12)
    np.testing.assert_allclose(jnp.linalg.norm(weights), jnp.linalg.norm(logits), atol=1e-12)


def test_training_ends_at_the_optimal_attention_and_at_one_token_without_penalty():
    simulation = quadratic_head(tokens=6)
    scores = simulation.sample(jax.random.key(0), ())
    run = jax.jit(rollout(simulation, [5000]))
    for penalty, errors in ((0.0, 1e-2), (0.3, 1e-2), (3.0, 1e-8)):
        found = run(jax.random.key(1), scores, Hyper(1.0, penalty)).conclusions
        assert found["attention_error"] < errors
    assert found["selected"] == found["predicted"] == 6
    with pytest.raises(ValueError, match="tokens must be at least 2, got 1"):
        quadratic_head(tokens=1)
    with pytest.raises(ValueError, match=r"tokens must be a whole number, got 2\.5"):
        quadratic_head(tokens=2.5)
