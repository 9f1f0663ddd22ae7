"""Noisy labels: reduced coordinates against the algorithm in d dimensions, the Wishart draw, the flipped labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi, kstest

from theory_sim.attention import benign_selection
from theory_sim.attention.benign import (
    FACTOR_ROWS,
    Problem,
    Query,
    bartlett,
    flipped_labels,
    logits,
    training_tokens,
)

INPUTS, TOKENS, DIM = 6, 4, 9
SIMULATION = benign_selection(inputs=INPUTS, tokens=TOKENS, test_inputs=10)
HYPER = SIMULATION.hyper._replace(signal_norm=3.0, rho=0.3, label_noise=0.4, step_size=20.0, init_scale=1.5)


class Plain:
    """The algorithm as it reads: tokens, head and q in d dimensions, signals along two given orthonormal rows."""

    def __init__(self, seed, turn=None):
        rng = np.random.default_rng(seed)
        turn = np.eye(DIM) if turn is None else turn
        noise, start = rng.normal(size=(INPUTS, TOKENS, DIM)) @ turn, rng.normal(size=DIM) @ turn
        signals = np.linalg.qr(rng.normal(size=(DIM, 2)))[0].T @ turn
        self.start = HYPER.init_scale * start / np.sqrt(DIM)
        self.noise, self.signals = np.concatenate([noise.reshape(-1, DIM), start[None]]), signals
        mu = HYPER.signal_norm * signals
        self.tokens = noise.copy()
        self.labels = np.repeat([1.0, -1.0], INPUTS // 2)
        for i, label in enumerate(self.labels):
            own, other = (mu[0], mu[1]) if label > 0 else (mu[1], mu[0])
            for token, part in enumerate((own, HYPER.rho * own, HYPER.rho * other)):
                self.tokens[i, token] += part
        # Of 6 labels 0.4 is 2.4, rounded up 3, less one that has no partner in the other class.
        self.labels[[0, INPUTS // 2]] *= -1
        self.head = (mu[0] - mu[1]) / (np.sqrt(2) * HYPER.signal_norm**2)

    def loss(self, q):
        attended = np.exp(self.tokens @ q)
        attended /= attended.sum(axis=1, keepdims=True)
        outputs = np.sum(attended * (self.tokens @ self.head), axis=1)
        return np.mean(np.log1p(np.exp(-self.labels * outputs)))

    def problem(self):
        plane = self.noise @ self.signals.T
        across = self.noise - plane @ self.signals
        return Problem(*map(jnp.asarray, (plane, across @ across.T, np.zeros((10, TOKENS, 3)), float(DIM))))

    def descend(self, steps):
        def value(q):
            attended = jax.nn.softmax(self.tokens @ q)
            outputs = jnp.sum(attended * (self.tokens @ self.head), axis=1)
            return jnp.mean(jax.nn.softplus(-self.labels * outputs))

        step = lambda _, q: q - HYPER.step_size / DIM * jax.grad(value)(q)  # noqa: E731
        return np.asarray(jax.jit(lambda q: jax.lax.fori_loop(0, steps, step, q))(jnp.asarray(self.start)))


def reduced(plain, steps):
    problem = plain.problem()
    return problem, descended(problem, steps)


@jax.jit
def descended(problem, steps):
    start = SIMULATION.init(None, problem, HYPER)
    return jax.lax.fori_loop(0, steps, lambda _, q: SIMULATION.step(None, problem, HYPER, q), start)


OBSERVE = jax.jit(SIMULATION.observe)
TRAINING = jax.jit(lambda problem: training_tokens(problem, HYPER, INPUTS))


def test_reduced_coordinates_are_the_algorithm_in_d_dimensions():
    plain = Plain(0)
    problem, query = reduced(plain, 60)
    data = TRAINING(problem)
    np.testing.assert_allclose(data.labels, plain.labels)
    np.testing.assert_allclose(data.scores, plain.tokens @ plain.head, atol=1e-12)
    q = plain.descend(60)
    assert np.abs(q - plain.start).max() > 0.1
    np.testing.assert_allclose(logits(problem, data, query), plain.tokens @ q, atol=1e-10)
    seen = OBSERVE(problem, HYPER, query)
    assert float(seen["train_loss"]) == pytest.approx(plain.loss(q), abs=1e-10)
    along = HYPER.signal_norm * np.mean(plain.signals @ q) / np.linalg.norm(q)
    assert float(seen["signal_ratio"]) == pytest.approx(along, abs=1e-10)


def test_a_step_is_along_the_gradient_by_finite_differences():
    plain = Plain(1)
    query = reduced(plain, 3)[1]
    moved = reduced(plain, 4)[1].coefficients - query.coefficients
    rows = np.concatenate(
        [plain.tokens.reshape(-1, DIM), plain.start[None] / HYPER.init_scale * np.sqrt(DIM)]
    )
    q, change = np.asarray(query.coefficients) @ rows, np.asarray(moved) @ rows
    size = 1e-5
    slopes = [(plain.loss(q + size * e) - plain.loss(q - size * e)) / (2 * size) for e in np.eye(DIM)]
    np.testing.assert_allclose(change, -HYPER.step_size / DIM * np.array(slopes), atol=1e-9)


def test_rotations_of_all_vectors_change_nothing():
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(DIM, DIM)))[0]
    plain, turned = Plain(2), Plain(2, turn)
    assert np.abs(plain.tokens - turned.tokens).max() > 0.1
    for one, other in zip(reduced(plain, 30), reduced(turned, 30), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), one, other)


def test_wishart_factors_have_the_distribution_of_drawn_vectors():
    vectors, draws = 4, 3000
    normals = np.random.default_rng(1).normal(size=(draws, FACTOR_ROWS + vectors, vectors))
    draw = jax.jit(jax.vmap(bartlett, in_axes=(0, None)))
    for dim in (2, 3, 7, 400):
        factors = np.asarray(draw(normals, dim))
        assert not np.triu(factors, 1).any()
        assert not factors[:, :, dim:].any()
        for j in range(min(dim, vectors)):
            assert kstest(factors[:, j, j], chi(dim - j).cdf).pvalue > 1e-4
        grams = factors @ factors.transpose(0, 2, 1)
        drawn = np.random.default_rng(0).normal(size=(draws, vectors, dim))
        products = drawn @ drawn.transpose(0, 2, 1)
        for i, j in ((3, 3), (3, 1)):
            assert kstest(grams[:, i, j], products[:, i, j]).pvalue > 1e-4


def test_flipped_labels_are_counted_in_each_class():
    counts = {(20, 0.2): 4, (20, 0.1): 2, (20, 0.0): 0, (20, 0.4): 8, (6, 0.4): 2, (7, 0.5): 4, (20, 0.05): 0}
    for (inputs, noise), count in counts.items():
        flipped = np.asarray(flipped_labels(inputs, noise))
        assert flipped.sum() == count, (inputs, noise)
        assert flipped[: inputs // 2].sum() == count // 2


def test_new_inputs_select_by_chance_without_a_signal_in_q_and_rightly_with_one():
    simulation = benign_selection(inputs=4, tokens=4, test_inputs=500)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(17, 2000))
    plane, gram, test = noise[:, :2], noise[:, 2:] @ noise[:, 2:].T, rng.normal(size=(500, 4, 3))
    problem = Problem(*map(jnp.asarray, (plane, gram, test, 2000.0)))
    observe = jax.jit(simulation.observe)
    vectors = len(problem.plane)
    hyper = simulation.hyper._replace(signal_norm=40.0)
    none = observe(problem, hyper, Query(jnp.zeros(vectors)))
    assert (float(none["test_selected"]), float(none["test_attention"])) == (0.0, 0.25)
    assert float(none["train_loss"]) == pytest.approx(np.log(2), abs=0.1)
    noise = simulation.observe(
        problem, hyper._replace(signal_norm=1e-3), Query(jnp.zeros(vectors).at[-1].set(1.0))
    )
    assert float(noise["test_selected"]) == pytest.approx(0.25, abs=0.06)
    told = observe(problem, hyper, Query(jnp.zeros(vectors).at[jnp.array([0, 8])].set(0.01)))
    assert float(told["test_selected"]) > 0.99
    assert float(told["test_error"]) == 0


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"inputs": 1}, "inputs must be at least 2, got 1"),
        ({"tokens": 2}, "tokens must be at least 3, got 2"),
        ({"test_inputs": 0}, "test_inputs must be at least 1, got 0"),
    ],
)
def test_bad_sizes_are_refused_in_one_line(sizes, message):
    with pytest.raises(ValueError, match=message):
        benign_selection(**{"inputs": 4, "tokens": 4, "test_inputs": 5, **sizes})
