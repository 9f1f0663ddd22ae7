"""Adapters in a subspace: VeRA's projection, descent in NumPy, the saddle at zero, and the spread of the start."""

from typing import Any

import flax.struct
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory_sim.simulation import trajectory
from theory_sim.subspace import adapter_spread, shared_adapters, vera_projection

SIZES = {"rows": 3, "cols": 5, "rank": 2, "layers": 2}
ADAPTERS = shared_adapters(**SIZES, max_dim=9)
SAMPLE = jax.jit(ADAPTERS.sample)
RUN = jax.jit(trajectory(ADAPTERS, [0, 3]))
INIT = jax.jit(ADAPTERS.init)
VERA = jax.jit(lambda key, x, y: products(vera_projection(key, **SIZES), x, y))


def products(projection, x, y):
    return projection.apply(x), projection.transpose(y), projection.gram(), projection


@given(seed=st.integers(0, 2**31))
def test_vera_scales_the_rows_of_its_factors(seed):
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=10), generator.normal(size=32)
    forward, backward, gram, p = VERA(jax.random.key(seed), x, y)
    layers = x.reshape(2, 5)
    wanted = [np.r_[(b[:3, None] * p.left).ravel(), (b[3:, None] * p.right).ravel()] for b in layers]
    np.testing.assert_allclose(forward, np.concatenate(wanted), atol=1e-14)
    assert abs(forward @ y - x @ backward) < 1e-12
    squares = np.r_[(np.asarray(p.left) ** 2).sum(axis=1), (np.asarray(p.right) ** 2).sum(axis=1)]
    np.testing.assert_allclose(gram, np.diag(np.tile(squares, 2)), atol=1e-14)


@flax.struct.dataclass
class Faulty:
    """A projection one of whose products mixes a tenth of the first coordinate into the second."""

    projection: Any
    fault: str = flax.struct.field(pytree_node=False)

    def apply(self, x):
        return self.projection.apply(x.at[1].add(0.1 * x[0]) if self.fault == "apply" else x)

    def transpose(self, y):
        x = self.projection.transpose(y)
        return x.at[1].add(0.1 * x[0]) if self.fault == "transpose" else x

    def gram(self):
        return self.projection.gram()

    def restricted(self, dim):
        return Faulty(self.projection.restricted(dim), self.fault)


def unpack(theta):
    """Adapters as a user writes them: factors of each layer."""
    return [(part[:6].reshape(3, 2), part[6:].reshape(2, 5)) for part in theta.reshape(2, 16)]


@given(seed=st.integers(0, 2**31), dim=st.integers(1, 9), projected=st.integers(0, 1))
def test_training_is_descent_written_in_numpy(seed, dim, projected):
    problem = SAMPLE(jax.random.key(seed), ADAPTERS.setting)
    hyper = ADAPTERS.hyper._replace(dim=dim, start=1.0, step_size=0.1, projected=projected)
    got = RUN(jax.random.key(seed), problem, hyper)
    state = INIT(jax.random.fold_in(jax.random.key(seed), 0), problem, hyper)
    order, targets = np.asarray(problem.projection.order), np.asarray(problem.targets)
    matrix = np.eye(9)[order % dim] / np.sqrt(np.bincount(order % dim, minlength=9))[order % dim, None]

    def gradient(theta):
        pulls = [(b @ a - t, b, a) for (b, a), t in zip(unpack(theta), targets, strict=True)]
        return np.concatenate([np.r_[(r @ a.T).ravel(), (b.T @ r).ravel()] for r, b, a in pulls])

    z = np.asarray(state.coordinates)
    theta = beside = matrix @ z
    np.testing.assert_allclose(
        got["update_square"], np.mean([(b @ a) ** 2 for b, a in unpack(theta)]), rtol=1e-10
    )
    for _ in range(3):
        z = z - 0.1 * matrix.T @ gradient(matrix @ z)
        descent = gradient(beside)
        beside = beside - 0.1 * (matrix @ (matrix.T @ descent) if projected else descent)
    theta = matrix @ z
    losses = [((b @ a - t) ** 2).sum() / 2 for (b, a), t in zip(unpack(theta), targets, strict=True)]
    np.testing.assert_allclose(got["loss"][-1], sum(losses), rtol=1e-9)
    gap = np.linalg.norm(theta - beside) / np.linalg.norm(theta)
    np.testing.assert_allclose(got["gap"][-1], gap, rtol=1e-7, atol=1e-12)
    assert (gap < 1e-12) == bool(projected)


@pytest.mark.parametrize("fault", ["apply", "transpose"])
@pytest.mark.parametrize("kind", ["one_hot", "signed_one_hot", "vera"])
def test_the_gram_matrix_is_measured_by_the_products(kind, fault):
    """A fault in either product is seen, although the Gram matrix in closed form knows nothing of it."""
    adapters = shared_adapters(projection=kind, **SIZES, max_dim=10)
    problem = jax.jit(adapters.sample)(jax.random.key(0), adapters.setting)

    @jax.jit
    def conclusions(problem):
        return trajectory(adapters, [0])(jax.random.key(1), problem, adapters.hyper._replace(dim=10))

    right = conclusions(problem)
    assert right["overlap"] < 1e-28
    assert right["transpose_error"] < 1e-14
    if kind != "vera":
        assert right["isometry_error"] < 1e-12
    wrong = conclusions(problem._replace(projection=Faulty(problem.projection, fault)))
    assert wrong["transpose_error"] > 1e-3
    if fault == "apply":
        assert wrong["overlap"] > 1e-4
        assert wrong["isometry_error"] > 1e-2


@pytest.mark.parametrize("dim", [3, 9])
def test_conclusions_are_those_of_the_gram_matrix(dim):
    dense = shared_adapters(projection="dense", **SIZES, max_dim=9)
    problem = jax.jit(dense.sample)(jax.random.key(1), dense.setting)
    got = jax.jit(trajectory(dense, [0]))(jax.random.key(2), problem, dense.hyper._replace(dim=dim))
    matrix = np.asarray(problem.projection.rows)[:dim]
    gram = matrix @ matrix.T
    off = gram - np.diag(np.diag(gram))
    np.testing.assert_allclose(got["norm"], np.mean(np.diag(gram)))
    np.testing.assert_allclose(got["overlap"], (off**2).sum() / (dim * (dim - 1)))
    np.testing.assert_allclose(got["isometry_error"], np.max(np.abs(gram - np.eye(dim))))
    image = matrix.T @ (matrix @ np.asarray(problem.direction))
    error = np.linalg.norm(matrix.T @ (matrix @ image) - image) / np.linalg.norm(image)
    np.testing.assert_allclose(got["projector_error"], error)


def test_zero_is_a_saddle():
    problem = SAMPLE(jax.random.key(0), ADAPTERS.setting)
    still = RUN(jax.random.key(0), problem, ADAPTERS.hyper._replace(dim=9, start=0.0))["loss"]
    moving = RUN(jax.random.key(0), problem, ADAPTERS.hyper._replace(dim=9, start=0.02))["loss"]
    assert still[0] == still[1]
    assert moving[1] < moving[0]


def test_spread_of_the_start_is_the_derived_one():
    generator, draws = np.random.default_rng(0), 4000
    order = generator.permuted(np.tile(np.arange(60) % 6, (draws, 1)), axis=1)
    coordinates = generator.uniform(-0.5, 0.5, size=(draws, 6))
    theta = np.take_along_axis(coordinates, order, axis=1) / np.sqrt(10)
    squares = np.mean(
        (theta[:, :30].reshape(draws, 10, 3) @ theta[:, 30:].reshape(draws, 3, 10)) ** 2, axis=(1, 2)
    )
    error = squares.std() / np.sqrt(draws)
    # Pairings of more than two coincidences, of order p^2 with a fourth moment, are left out of the prediction.
    assert (
        abs(squares.mean() - adapter_spread(60, 6, rank=3, start=0.5) ** 2)
        < 4 * error + 0.03 * squares.mean()
    )
    assert abs(squares.mean() - (np.sqrt(3) * 0.25 / 3 * 6 / 60) ** 2) > 8 * error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"max_dim": 33}, "between 1 and the 32 parameters, got 33"),
        ({"max_dim": 0}, "between 1 and the 32 parameters, got 0"),
        ({"projection": "dens"}, "did you mean 'dense'"),
        ({"projection": "vera"}, "at least VeRA's 10 coordinates, got 9"),
    ],
)
def test_bad_requests_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        shared_adapters(**{**SIZES, "max_dim": 9, **changes})
