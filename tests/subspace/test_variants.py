"""Variants of subspace training against loops by autodiff: per tensor, scaled, fewer examples, rounded, tuned."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from theory_sim.simulation import trajectory
from theory_sim.subspace import fine_tuning, rounded_training, subspace_training

STEPS, BATCH, MAX_DIM = 5, 8, 12
UNIFORM = nn.initializers.uniform(1.0)


class Small(nn.Module):
    """Two layers of 15 and 8 parameters, in four tensors."""

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        x = nn.relu(nn.Dense(3, kernel_init=UNIFORM, param_dtype=x.dtype)(x))
        return nn.Dense(2, kernel_init=UNIFORM, param_dtype=x.dtype)(x)


def data(seed=0, train=20, test=10):
    draw = np.random.default_rng(seed)
    xs = [draw.normal(size=(count, 4)) for count in (train, test)]
    ys = [draw.integers(2, size=count) for count in (train, test)]
    return xs[0], ys[0], xs[1], ys[1]


def loss(parameters, x, y):
    return -jnp.mean(jax.nn.log_softmax(Small().apply({"params": parameters}, x))[jnp.arange(len(y)), y])


PROGRAMS = {}


def run(simulation, steps=(0, STEPS), **hyper):
    problem = simulation.sample(jax.random.key(1), simulation.setting)
    hyper = jax.tree.map(jnp.asarray, simulation.hyper._replace(**hyper))
    program = PROGRAMS.setdefault((id(simulation.step), steps), jax.jit(trajectory(simulation, list(steps))))
    return problem, program(jax.random.key(5), problem, hyper)


def loop(displacement, dim, rate, key=5, examples=20, start=None):
    """SGD on z, the parameters being theta_0 + displacement(z), with the run's own key convention."""
    x, y, *_ = map(jnp.asarray, data())
    init_key, stream = (jax.random.fold_in(jax.random.key(key), i) for i in (0, 1))
    flat, unravel = jax.flatten_util.ravel_pytree(Small().init(init_key, jnp.zeros((1, 4)))["params"])
    flat = flat if start is None else start

    @jax.jit
    def gradient(z, chosen):
        return jax.grad(lambda z: loss(unravel(flat + displacement(z)), x[chosen], y[chosen]))(z)

    z = jnp.zeros(dim)
    for t in range(STEPS):
        chosen = np.asarray(jax.random.bits(jax.random.fold_in(stream, t), (BATCH,), "uint32") % examples)
        z = z - rate * gradient(z, chosen)
    return flat + displacement(z), unravel


OPTIONS = {"max_dim": MAX_DIM, "optimizer": optax.sgd, "batch_size": BATCH}


@pytest.mark.parametrize("projection", ["dense", "signed_one_hot"])
def test_the_tensor_form_moves_each_tensor_by_its_own_projection(projection):
    simulation = subspace_training(Small(), data(), projection=projection, structure="tensors", **OPTIONS)
    problem, measured = run(simulation, dim=7, step_size=0.3)
    assert problem.sizes == (3, 12, 2, 6)
    matrix = jax.vmap(problem.restricted(7).apply)(jnp.eye(MAX_DIM)[:7])
    theta, unravel = loop(lambda z: z @ matrix, 7, 0.3)
    np.testing.assert_allclose(measured["train_loss"][-1], loss(unravel(theta), *data()[:2]), rtol=1e-10)


def test_the_scaled_form_trains_a_scale_for_each_tensor_within_the_budget():
    simulation = subspace_training(Small(), data(), structure="scaled_tensors", **OPTIONS)
    problem, measured = run(simulation, dim=9, step_size=0.3)
    matrix = jax.vmap(problem.apply)(jnp.eye(MAX_DIM - 4)[:5])

    def displacement(z):
        scales = 1 + z[:4]
        return jnp.repeat(scales, jnp.array([3, 12, 2, 6]), total_repeat_length=23) * (z[4:] @ matrix)

    theta, unravel = loop(displacement, 9, 0.3)
    np.testing.assert_allclose(measured["train_loss"][-1], loss(unravel(theta), *data()[:2]), rtol=1e-10)
    # The scales have moved: without them the end is another.
    without, _ = loop(lambda z: z @ matrix, 5, 0.3)
    assert not np.allclose(without, theta, rtol=1e-3)


def test_a_budget_that_the_scales_use_up_is_cautioned_or_refused():
    simulation = subspace_training(Small(), data(), structure="scaled_tensors", **OPTIONS)
    hyper = simulation.hyper._replace(dim=np.array([0, 1, 4, 5]))
    ((message, cells),) = simulation.caution(simulation.setting, hyper).items()
    assert message == "the 4 scales of the tensors take the whole budget: nothing moves"
    assert cells.tolist() == [False, True, True, False]
    with pytest.raises(ValueError, match="max_dim must exceed the 4 scales of the model's tensors, got 4"):
        subspace_training(Small(), data(), structure="scaled_tensors", max_dim=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"structure": "layers"},
            "unknown structure 'layers', expected one of whole, tensors, scaled_tensors",
        ),
        (
            {"structure": "tensors", "projection": lambda *_: None},
            "structure 'tensors' needs the name of a projection",
        ),
        ({"evaluated": 0}, "evaluated must lie between 1 and 20 examples, got 0"),
        ({"evaluated": 21}, "evaluated must lie between 1 and 20 examples, got 21"),
    ],
)
def test_wrong_variants_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        subspace_training(Small(), data(), max_dim=5, **options)


def test_direct_training_alone_has_nothing_to_round_and_no_subspace_to_tune_in():
    options = {**OPTIONS, "max_dim": 0}
    with pytest.raises(ValueError, match="at least 1 in rounded_training: 0 leaves no coordinates to round"):
        rounded_training(Small(), data(), **options)
    with pytest.raises(ValueError, match="max_dim must be at least 1 in fine_tuning, got 0"):
        fine_tuning(Small(), data(), data(seed=3), **options)


def test_fewer_examples_are_training_on_the_first_ones():
    whole = subspace_training(Small(), data(), **OPTIONS)
    first = tuple(part[:11] for part in data()[:2])
    part = subspace_training(Small(), (*first, *data()[2:]), **OPTIONS)
    masked = run(whole, dim=5, step_size=0.3, examples=11)[1]
    sliced = run(part, dim=5, step_size=0.3)[1]
    for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        np.testing.assert_allclose(masked[name], sliced[name], rtol=1e-12)


def test_metrics_do_not_depend_on_the_pieces_they_are_computed_in(monkeypatch):
    metrics = []
    for piece in (7, 1000):
        monkeypatch.setattr("theory_sim.subspace.examples.PIECE", piece)
        simulation = subspace_training(Small(), data(), evaluated=17, **OPTIONS)
        metrics.append(run(simulation, steps=(0,), dim=5, examples=15)[1])
    for name, value in metrics[0].items():
        np.testing.assert_allclose(value, metrics[1][name], rtol=1e-12)
    _, unravel = loop(lambda z: 0 * z, 23, 0.0)
    theta, _ = loop(lambda z: 0 * z, 23, 0.0)
    x, y, *_ = data()
    np.testing.assert_allclose(metrics[0]["train_loss"][0], loss(unravel(theta), x[:15], y[:15]), rtol=1e-12)


def test_bytes_are_grey_levels_between_nothing_and_one():
    draw = np.random.default_rng(0)
    grey = [draw.integers(256, size=(count, 2, 2), dtype=np.uint8) for count in (20, 10)]
    labels = data()[1], data()[3]
    as_bytes = subspace_training(Small(), (grey[0], labels[0], grey[1], labels[1]), **OPTIONS)
    floats = [x / 255 for x in grey]
    as_floats = subspace_training(Small(), (floats[0], labels[0], floats[1], labels[1]), **OPTIONS)
    assert as_bytes.step.args[0].x.dtype == np.uint8
    for name, value in run(as_bytes, dim=5)[1].items():
        np.testing.assert_allclose(value, run(as_floats, dim=5)[1][name], rtol=1e-12)


def test_float32_may_be_asked_for_within_float64():
    for structure in ("whole", "scaled_tensors"):
        options = {**OPTIONS, "optimizer": optax.adam, "structure": structure}
        single = subspace_training(Small(), data(), dtype="float32", **options)
        problem = single.sample(jax.random.key(1), single.setting)
        state = single.init(jax.random.key(0), problem, single.hyper)
        after = jax.jit(single.step)(jax.random.key(2), problem, single.hyper, state)
        floats = [
            x.dtype for x in jax.tree.leaves((problem, state, after)) if jnp.issubdtype(x.dtype, jnp.floating)
        ]
        assert set(floats) == {np.dtype("float32")}
        double = subspace_training(Small(), data(), **options)
        # A matrix drawn in float32 is another one: both runs have this one.
        ours, theirs = (
            jax.jit(trajectory(simulation, [0, STEPS]))(
                jax.random.key(5),
                jax.tree.map(partial(as_float, dtype), problem),
                simulation.hyper._replace(dim=9, step_size=0.1),
            )["train_loss"]
            for simulation, dtype in ((single, "float32"), (double, "float64"))
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def as_float(dtype, x):
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x


def test_what_is_seen_is_the_network_with_rounded_coordinates():
    simulation = rounded_training(Small(), data(), **OPTIONS)
    problem, measured = run(simulation, dim=5, step_size=0.5, levels=4, largest=0.3)
    columns = jax.vmap(problem.apply)(jnp.eye(MAX_DIM)[:5])
    finest = run(simulation, dim=5, step_size=0.5, levels=10**6, largest=20.0)[1]
    plain = run(subspace_training(Small(), data(), **OPTIONS), dim=5, step_size=0.5)[1]
    np.testing.assert_allclose(finest["test_loss"], plain["test_loss"], atol=1e-3)
    theta, unravel = loop(lambda z: z @ columns, 5, 0.5)
    start, _ = loop(lambda z: 0 * z, 23, 0.0)
    z = np.linalg.lstsq(np.asarray(columns).T, np.asarray(theta - start), rcond=None)[0]
    values = np.array([-0.3, -0.1, 0.1, 0.3])
    rounded = values[np.abs(z[:, None] - values).argmin(axis=1)]
    expected = loss(unravel(start + rounded @ columns), *data()[:2])
    np.testing.assert_allclose(measured["train_loss"][-1], expected, rtol=1e-10)
    np.testing.assert_allclose(measured["gap"], measured["train_accuracy"] - measured["test_accuracy"])
    direct = [run(simulation, dim=0, direct_step_size=0.3, levels=levels)[1] for levels in (2, 9)]
    np.testing.assert_allclose(direct[0]["train_loss"], direct[1]["train_loss"])


def test_fine_tuning_starts_where_direct_training_on_the_source_ends():
    source, target = data(seed=3), data()
    simulation = fine_tuning(Small(), source, target, **OPTIONS)
    problem, measured = run(simulation, dim=5, step_size=0.3, direct_step_size=0.2, pretraining=STEPS)
    # Pretraining is direct training with keys of its own, from the initial weights of the run's key.
    of_init = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 0), 0)
    stream = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 0), 1)
    flat, unravel = jax.flatten_util.ravel_pytree(Small().init(of_init, jnp.zeros((1, 4)))["params"])
    gradient = jax.jit(
        lambda theta, x, y: jax.flatten_util.ravel_pytree(jax.grad(loss)(unravel(theta), x, y))[0]
    )
    for t in range(STEPS):
        chosen = np.asarray(jax.random.bits(jax.random.fold_in(stream, t), (BATCH,), "uint32") % 20)
        flat = flat - 0.2 * gradient(flat, source[0][chosen], source[1][chosen])
    np.testing.assert_allclose(measured["train_loss"][0], loss(unravel(flat), *target[:2]), rtol=1e-10)
    columns = jax.vmap(problem.apply)(jnp.eye(MAX_DIM)[:5])
    theta, _ = loop(lambda z: z @ columns, 5, 0.3, start=flat)
    np.testing.assert_allclose(measured["train_loss"][-1], loss(unravel(theta), *target[:2]), rtol=1e-10)
    untrained = run(simulation, dim=5, pretraining=0)[1]["train_loss"][0]
    assert not np.isclose(untrained, measured["train_loss"][0])
