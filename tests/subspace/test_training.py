"""Subspace training: against a hand-written loop, under masking, batching and lowering, and with bad input."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from theory_sim.simulation import trajectory
from theory_sim.subspace import MLP, subspace_training

STEPS = 7
UNIFORM = nn.initializers.uniform(1.0)


class Small(nn.Module):
    """Two layers, 43 parameters; unlike he_normal, uniform weights compile at once."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(5, kernel_init=UNIFORM, param_dtype=x.dtype)(x))
        return nn.Dense(3, kernel_init=UNIFORM, param_dtype=x.dtype)(x)


ADAM = partial(optax.adam, b1=0.9, b2=0.99)


def small_data(seed=0, train=50, test=20, shape=(4,), classes=3):
    generator = np.random.default_rng(seed)
    xs = [generator.normal(size=(count, *shape)) for count in (train, test)]
    ys = [np.resize(np.arange(classes), count) for count in (train, test)]
    return xs[0], ys[0], xs[1], ys[1]


@cache
def build(**changes):
    options = {"max_dim": 8, "optimizer": ADAM, "batch_size": 16, **changes}
    return subspace_training(Small(), small_data(), **options)


def with_data(simulation, step_data, observe_data):
    step = jax.tree_util.Partial(simulation.step.func, step_data)
    observe = jax.tree_util.Partial(simulation.observe.func, observe_data)
    return simulation._replace(step=step, observe=observe)


def final(simulation, problem, steps=(0, STEPS), key=5, **hyper):
    hyper = jax.tree.map(jnp.asarray, simulation.hyper._replace(**hyper))
    return program_of(simulation.step, simulation, steps)(jax.random.key(key), problem, hyper)


PROGRAMS = {}


def program_of(step, simulation, steps):
    """One compilation for each simulation: every number in hyper is traced."""
    return PROGRAMS.setdefault((id(step), steps), jax.jit(trajectory(simulation, list(steps))))


def reference_loss(parameters, x, y):
    w1, b1, w2, b2 = (
        parameters[layer][name] for layer in ("Dense_0", "Dense_1") for name in ("kernel", "bias")
    )
    logits = jnp.maximum(x @ w1 + b1, 0) @ w2 + b2
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(y)), y])


reference_gradient = jax.jit(jax.grad(reference_loss))


def hand_written(matrix, learning_rate, key=5):
    """Adam as in its paper, on theta_0 + matrix z, with the run's own key convention; matrix None trains all."""
    data = small_data()
    key = jax.random.key(key)
    init_key, stream = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
    start = jax.jit(Small().init)(init_key, jnp.zeros((1, 4)))["params"]
    flat, unravel = jax.flatten_util.ravel_pytree(start)
    matrix = np.eye(flat.size) if matrix is None else np.asarray(matrix)
    z = m = v = np.zeros(matrix.shape[1])
    for t in range(STEPS):
        chosen = np.asarray(jax.random.bits(jax.random.fold_in(stream, t), (16,), "uint32") % 50)
        theta = unravel(flat + matrix @ z)
        gradient = reference_gradient(theta, data[0][chosen], data[1][chosen])
        g = matrix.T @ np.asarray(jax.flatten_util.ravel_pytree(gradient)[0])
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        z = z - learning_rate * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.99 ** (t + 1))) + 1e-8)
    return float(reference_loss(unravel(flat + matrix @ z), data[0], data[1]))


def test_dimension_zero_is_a_hand_written_training_loop():
    simulation = build()
    problem = simulation.sample(jax.random.key(1), simulation.setting)
    measured = final(simulation, problem, dim=0, direct_step_size=0.03)["train_loss"]
    np.testing.assert_allclose(measured[-1], hand_written(None, 0.03), rtol=1e-10)
    assert measured[-1] < measured[0]


@pytest.mark.parametrize("dim", [0, 5])
@pytest.mark.parametrize("optimizer", [ADAM, partial(optax.adamw, weight_decay=0.1)])
def test_a_program_for_one_kind_of_training_is_the_one_for_both(dim, optimizer):
    curves = []
    for alone in (False, True):
        options = {"max_dim": 0} if alone and dim == 0 else {"direct": not alone}
        simulation = build(optimizer=optimizer, projection="signed_one_hot", **options)
        problem = simulation.sample(jax.random.key(1), simulation.setting)
        hyper = {"dim": dim, "step_size": 0.2, "direct_step_size": 0.03, "examples": 40}
        curves.append(final(simulation, problem, **hyper))
    for name, values in curves[0].items():
        np.testing.assert_allclose(curves[1][name], values, rtol=1e-10, err_msg=name)
    assert simulation.limits["dim"] == ((0, 0) if dim == 0 else (1, 8))
    state = jax.eval_shape(simulation.init, jax.random.key(0), problem, simulation.hyper)
    # Adam's two memories and its count: of all parameters, or of theta_d alone.
    assert sum(leaf.size for leaf in jax.tree.leaves(state.optimizer)) == 2 * (8 if dim else 43) + 1


@pytest.mark.parametrize("optimizer", [optax.contrib.muon, optax.sm3], ids=["muon", "sm3"])
def test_direct_training_shows_the_tensors_to_the_optimiser_in_every_program(optimizer):
    curves = []
    for max_dim in (8, 0):
        simulation = build(optimizer=optimizer, projection="signed_one_hot", max_dim=max_dim)
        problem = simulation.sample(jax.random.key(1), simulation.setting)
        curves.append(final(simulation, problem, dim=0, direct_step_size=0.03)["train_loss"])
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-9)
    assert curves[0][-1] < curves[0][0]
    # These optimisers would do something else with all parameters as one vector.
    flat = lambda rate: optax.flatten(optimizer(rate))  # noqa: E731
    simulation = build(optimizer=flat, max_dim=0)
    other = final(simulation, (), dim=0, direct_step_size=0.03)["train_loss"]
    assert abs(other[-1] / curves[0][-1] - 1) > 1e-3


@pytest.mark.parametrize("projection", ["dense", "fastfood"])
@pytest.mark.parametrize("dim", [1, 5, 8])
def test_a_masked_dimension_is_training_with_the_first_columns(projection, dim):
    simulation = build(projection=projection)
    problem = simulation.sample(jax.random.key(1), simulation.setting)
    columns = jax.vmap(problem.apply)(jnp.eye(8)[:dim]).T
    measured = final(simulation, problem, dim=dim, step_size=0.2)["train_loss"][-1]
    np.testing.assert_allclose(measured, hand_written(columns, 0.2), rtol=1e-10)


@pytest.mark.parametrize(
    ("projection", "optimizer"), [("dense", ADAM), ("fastfood", ADAM), ("dense", optax.lion)]
)
def test_padding_to_a_larger_dimension_changes_nothing(projection, optimizer):
    losses = []
    for max_dim in (5, 8):
        simulation = build(projection=projection, max_dim=max_dim, optimizer=optimizer)
        problem = simulation.sample(jax.random.key(1), simulation.setting)
        losses.append(final(simulation, problem, dim=5, step_size=0.1)["train_loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12)


def test_a_batch_of_runs_equals_the_runs_alone():
    simulation = build()
    problem = simulation.sample(jax.random.key(1), simulation.setting)
    keys, dims = jax.random.split(jax.random.key(2), 4), jnp.array([0, 1, 4, 8])
    run = trajectory(simulation, [0, STEPS])
    together = jax.jit(jax.vmap(lambda key, dim: run(key, problem, simulation.hyper._replace(dim=dim))))(
        keys, dims
    )
    for i in range(4):
        hyper = simulation.hyper._replace(dim=dims[i])
        alone = program_of(simulation.step, simulation, (0, STEPS))(
            keys[i], problem, jax.tree.map(jnp.asarray, hyper)
        )
        np.testing.assert_allclose(together["train_loss"][i], alone["train_loss"], rtol=1e-10)


@pytest.mark.parametrize("dim", [0, 8])
def test_weight_decay_acts_on_what_is_trained(dim):
    def decayed(rate):
        return optax.chain(optax.add_decayed_weights(0.5), optax.sgd(rate))

    ends = []
    for optimizer in (optax.sgd, decayed):
        simulation = build(optimizer=optimizer)
        problem = simulation.sample(jax.random.key(0), simulation.setting)
        hyper = simulation.hyper._replace(dim=dim, step_size=0.1, direct_step_size=0.1)
        state = simulation.init(jax.random.key(1), problem, hyper)
        # A second step: theta_d starts at zero.
        for key in jax.random.split(jax.random.key(2)):
            before, state = state, jax.jit(simulation.step)(key, problem, hyper, state)
        ends.append(before)
    plain, decaying = ends
    if dim:
        np.testing.assert_allclose(plain.moved, decaying.moved, rtol=1e-12)
    else:
        # The first decay of 0.1 * 0.5 pulls the parameters, not their displacement, towards zero.
        np.testing.assert_allclose(decaying.moved, plain.moved - 0.05 * plain.start, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "options", [{"max_dim": 0}, {}, {"direct": False}], ids=["direct", "both", "subspace"]
)
def test_l2_acts_on_the_kernels_of_the_network_however_it_is_trained(options):
    dim = options.get("max_dim", 8 if "direct" in options else 0)
    ends = []
    for l2 in (0.0, 0.3):
        simulation = build(optimizer=optax.sgd, l2=l2, **options)
        problem = simulation.sample(jax.random.key(0), simulation.setting)
        hyper = simulation.hyper._replace(dim=dim, step_size=0.1, direct_step_size=0.1)
        state = simulation.init(jax.random.key(1), problem, hyper)
        ends.append(jax.jit(simulation.step)(jax.random.key(2), problem, hyper, state))
        loss = simulation.observe(problem, hyper, state)["train_loss"]
    start = Small().init(jax.random.key(1), jnp.zeros((1, 4)))["params"]
    pulls = jax.tree.map(lambda leaf: 2 * 0.3 * leaf * (leaf.ndim > 1), start)
    pull = jax.flatten_util.ravel_pytree(pulls)[0]
    plain, penalised = (
        jax.flatten_util.ravel_pytree(end.parameters)[0] if options.get("max_dim") == 0 else end.moved
        for end in ends
    )
    wanted = problem.transpose(pull) if dim else pull
    np.testing.assert_allclose(plain - penalised, 0.1 * wanted, rtol=1e-9, atol=1e-12)
    # What is reported is the cross-entropy alone.
    np.testing.assert_allclose(loss, reference_loss(start, *small_data()[:2]))


def test_an_optimiser_in_the_place_of_its_constructor_is_refused():
    with pytest.raises(ValueError, match=r"optax.adam and not optax.adam\(0.01\)"):
        subspace_training(Small(), small_data(), max_dim=8, optimizer=optax.adam(0.01))


def test_metrics_are_those_of_the_network():
    simulation = build()
    data = small_data()
    problem = simulation.sample(jax.random.key(1), simulation.setting)
    measured = final(simulation, problem, steps=(0,), key=9, dim=3)
    model = Small()
    variables = model.init(jax.random.fold_in(jax.random.key(9), 0), jnp.zeros((1, 4)))
    for name, x, y in (("train", *data[:2]), ("test", *data[2:])):
        accuracy = np.mean(np.argmax(model.apply(variables, x), axis=1) == y)
        np.testing.assert_allclose(measured[f"{name}_accuracy"][0], accuracy, rtol=1e-6)
    np.testing.assert_allclose(measured["train_loss"][0], reference_loss(variables["params"], *data[:2]))


def test_data_are_arguments_of_the_program():
    data = small_data(train=4000, test=3000)
    simulation = subspace_training(MLP([5, 3]), data, max_dim=8)

    def program(step_data, observe_data, key, problem):
        run = trajectory(with_data(simulation, step_data, observe_data), [0, 2])
        return run(key, problem, simulation.hyper)

    problem = simulation.sample(jax.random.key(0), simulation.setting)
    arguments = (simulation.step.args[0], simulation.observe.args[0], jax.random.key(1), problem)
    assert sum(leaf.size for leaf in jax.tree.leaves(arguments[:2])) > 30_000
    closed = jax.make_jaxpr(program)(*arguments)
    assert all(np.size(constant) < 1000 for constant in closed.consts)


@pytest.mark.parametrize("projection", ["dense", "fastfood"])
@pytest.mark.parametrize("wide", [False, True])
def test_lowers_for_every_platform(projection, wide):
    with jax.enable_x64(wide):
        simulation = build.__wrapped__(projection=projection)

        def program(key, hyper):
            problem = simulation.sample(key, simulation.setting)
            return trajectory(simulation, [0, 3])(key, problem, hyper)["train_loss"]

        hyper = jax.tree.map(jnp.asarray, simulation.hyper)
        exported = export.export(jax.jit(program), platforms=["cpu", "cuda", "tpu"])(jax.random.key(0), hyper)
        assert exported.out_avals[0].dtype == (jnp.float64 if wide else jnp.float32)


class Words(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.Embed(7, 4)(x).mean(axis=1))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_whole_numbers_but_bytes_stay_tokens(dtype):
    generator, (_, train_y, _, test_y) = np.random.default_rng(0), small_data()
    train_x, test_x = (generator.integers(7, size=(count, 5)).astype(dtype) for count in (50, 20))
    for max_dim in (0, 8):
        data = (train_x, train_y, test_x, test_y)
        simulation = subspace_training(Words(), data, max_dim=max_dim, batch_size=16)
        problem = simulation.sample(jax.random.key(1), simulation.setting)
        losses = final(simulation, problem, dim=max_dim, step_size=0.1, direct_step_size=0.1)["train_loss"]
        assert losses[-1] < losses[0]


class Convolution(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(2, (3, 3))(x[..., None]))
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def test_any_flax_module_and_image_shape_will_do():
    simulation = subspace_training(Convolution(), small_data(shape=(5, 5)), max_dim=20, batch_size=16)
    problem = simulation.sample(jax.random.key(1), simulation.setting)
    losses = final(simulation, problem, steps=(0, 60), dim=20, step_size=0.1)["train_loss"]
    assert losses.dtype == jnp.float64
    assert losses[1] < losses[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_dim": 44}, "between 1 and the 43 parameters of the model, or .* alone, got 44"),
        ({"max_dim": -1}, "or be 0 for direct training alone, got -1"),
        ({"max_dim": 0, "direct": False}, "max_dim=0 leaves direct training alone, and direct=False nothing"),
        ({"projection": "fastfod"}, "did you mean 'fastfood'"),
        ({"projection": "x"}, "expected one of .*'one_hot', 'signed_one_hot', 'sparse'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"l2": -1e-4}, "l2 must be a number of at least 0, got -0.0001"),
        ({"max_dim": 10.0}, r"max_dim must be a whole number, got 10\.0"),
        ({"projection": ("dense",)}, r"unknown projection \('dense',\), expected one of"),
    ],
)
def test_bad_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (1, lambda y: y + 1, r"train_y must lie in 0 .. 2.*got labels from 1 to 3"),
        (3, lambda y: y - 1, r"test_y must lie in 0 .. 2.*got labels from -1"),
        (1, lambda y: y[:-1], "train_x must have one row for each of 49 labels"),
        (1, lambda y: y.astype(float), "train_y must be a vector of whole numbers"),
        (2, lambda x: x[:, :3], r"differ in shape: \(4,\) and \(3,\)"),
        (0, lambda x: x[:, 0], "train_x must have one row"),
        (
            0,
            lambda x: x.astype(np.uint8),
            "bytes alone are .* by 255: train_x is uint8 and test_x is float64",
        ),
        (2, lambda x: x.astype(np.uint8), "train_x is float64 and test_x is uint8"),
    ],
)
def test_bad_data_are_refused(position, change, message):
    data = list(small_data())
    data[position] = change(data[position])
    with pytest.raises(ValueError, match=message):
        subspace_training(MLP([5, 3]), tuple(data), max_dim=3)


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(2, (3, 3))(x)
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def test_a_model_that_does_not_take_the_examples_is_told_their_shape():
    with pytest.raises(
        ValueError, match=r"^the model does not take a batch of examples of shape \(4,\): \w+: ."
    ) as refusal:
        subspace_training(Flat(), small_data(), max_dim=3)
    assert "\n" not in str(refusal.value)


def test_wrong_models_are_refused():
    with pytest.raises(ValueError, match=r"got the collections \['batch_stats', 'params'\]"):
        subspace_training(nn.BatchNorm(use_running_average=False), small_data(), max_dim=3)
    with pytest.raises(ValueError, match=r"logits \[batch, classes\], got shape"):
        subspace_training(nn.Dense(3), small_data(shape=(2, 2)), max_dim=3)
