r"""Token selection with noisy labels in Gaussian noise of any dimension, in coordinates that do not depend on it.

The model of arXiv:2409.17625, by its official code: sequences of T tokens in R^d, all with noise N(0, I), where `mu_+`
and `mu_-` are orthogonal signals of one norm and y is the true class. Token 1 is relevant: `+ mu_y`. Tokens 2 and 3 are
weakly relevant: `+ rho mu_y` and `+ rho mu_-y`. Some training labels Y are flipped. The output is `sum_t s_t nu . x_t`,
`s = softmax(x_t . q)`, with the fixed head `nu = (mu_+ - mu_-) / (sqrt(2) |mu|^2)`. Gradient descent on the logistic
loss trains q alone: the code has `q = W p`, p from zero; this is its older version, W = I, the newer trains W too.

Reduced coordinates (derived): `q = q_0 + sum c_it x_it`, as gradients lie in the span of the tokens, and a step adds
`eta / n sigma(-m_i) Y_i s_it nu . (x_it - sum_r s_ir x_ir)` to `c_it`. All that is needed is the Gram matrix of tokens
and start: with the signals' plane split off it is `V V^T + G`, V being coordinates in the plane, G the Gram matrix of
n T + 1 normal vectors in R^(d - 2). That is a Wishart matrix: `G = L L^T`, L lower triangular, with normal entries
below a diagonal of `chi(d - 2 - j)`, j = 0, 1, ... (Bartlett). So d is a number like any other. New inputs see q by its
two coordinates in the plane and the norm of the rest: three normal numbers a token stand for its noise, exactly in
distribution at each step.

>>> import jax
>>> from theory_sim.simulation import trajectory
>>> jax.config.update("jax_enable_x64", True)
>>> simulation = benign_selection(inputs=8, tokens=4, test_inputs=50)
>>> problem = jax.jit(simulation.sample)(jax.random.key(0), simulation.setting)
>>> hyper = simulation.hyper._replace(signal_norm=30.0, label_noise=0.25)
>>> found = jax.jit(trajectory(simulation, [0, 1000]))(jax.random.key(1), problem, hyper)
>>> found["noisy_error"].tolist(), float(found["test_error"][-1])
([1.0, 0.0], 0.0)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from theory_sim.draws import normal
from theory_sim.simulation import Metrics, Simulation, Variable

PLANE = 2
"""Dimensions of the signals' plane."""

PROPOSALS = 9
"""Proposals for each norm."""

FACTOR_ROWS = 3 * PROPOSALS
"""Rows of normal numbers that norms are made of."""


class Setting(NamedTuple):
    """The dimension of tokens."""

    dim: int = 2000


class Hyper(NamedTuple):
    """The data's signal and labels, and the descent; runs that differ in these share their noise.

    `rho` is the part of the signal in weakly relevant tokens. `label_noise` times `inputs`, rounded up, labels are
    flipped, or one less, half of them in each class. `step_size` is in units of `1 / dim`: tokens' noise has squared
    norm d, so that a step moves logits alike whatever d is. A start has norm about `init_scale`.
    """

    signal_norm: float = 20.0
    rho: float = 0.1
    label_noise: float = 0.2
    step_size: float = 10.0
    init_scale: float = 0.0


class Problem(NamedTuple):
    """Noise without signals: of the tokens, sequence by sequence, then of the start, and of new inputs.

    `plane` are coordinates along `mu_+` and `mu_-`, `gram` inner products across these; a new token's coordinates are
    those two and one along the part of `q` across them. `dim` counts both.
    """

    plane: Float[Array, "vectors 2"]
    gram: Float[Array, "vectors vectors"]
    test: Float[Array, "test_inputs tokens 3"]
    dim: Float[Array, ""]


class Tokens(NamedTuple):
    """Training data of one run: coordinates in the plane with the signals, scores, labels, and which are flipped."""

    plane: Float[Array, "vectors 2"]
    scores: Float[Array, "inputs tokens"]
    labels: Float[Array, " inputs"]
    flipped: Float[Array, " inputs"]


class Query(NamedTuple):
    """`q` as coefficients of the training tokens, sequence by sequence, and of the start."""

    coefficients: Float[Array, " vectors"]


def benign_selection(*, inputs: int, tokens: int, test_inputs: int) -> Simulation:
    """Return gradient descent on `q`, from zero or from a Gaussian start.

    Metrics: losses and errors of all training inputs, by the labels they have, and of new inputs, by the true class;
    `noisy_error`, the share of flipped labels that are not fitted; the mean attention on the relevant token of clean,
    of noisy and of new inputs; `test_selected`, the share of new inputs whose most attended token it is;
    `signal_ratio`, the mean of `q . mu_+` and `q . mu_-` over the norm of q. Of no inputs, means are zero.

    Raises ValueError on fewer than two inputs, three tokens or one test input.
    """
    for name, value, least in (("inputs", inputs, 2), ("tokens", tokens, 3), ("test_inputs", test_inputs, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    return Simulation(
        sample=partial(_sample, sizes=(inputs, tokens, test_inputs)),
        init=partial(_init, vectors=inputs * tokens + 1),
        step=partial(_step, inputs=inputs),
        observe=partial(_observe, inputs=inputs),
        setting=Setting(),
        hyper=Hyper(),
        variables={
            "train_loss": Variable("training loss"),
            "train_error": Variable("training error, by noisy labels"),
            "noisy_error": Variable("share of noisy labels that are not fitted"),
            "test_loss": Variable("test loss"),
            "test_error": Variable("test error"),
            "clean_attention": Variable("attention on the relevant token, clean inputs"),
            "noisy_attention": Variable("attention on the relevant token, noisy inputs"),
            "test_attention": Variable("attention on the relevant token, new inputs"),
            "test_selected": Variable("share of new inputs that select the relevant token"),
            "signal_ratio": Variable(r"signal $q \cdot \mu$ over $|q|$"),
        },
        limits={
            "dim": (3, float("inf")),
            "signal_norm": (SMALLEST, float("inf")),
            "rho": (0.0, 1.0),
            "label_noise": (0.0, 0.5),
            "step_size": (0.0, float("inf")),
            "init_scale": (0.0, float("inf")),
        },
    )


SMALLEST = 1e-6
"""The head has norm `1 / |mu|`."""


def flipped_labels(inputs: int, label_noise: Float[Array, ""] | float) -> Float[Array, " inputs"]:
    """Return 1 for the inputs with a flipped label: the first ones of each half, which are the two classes.

    Noise is the same for all inputs: which are flipped does not matter.
    """
    # The product of a decimal fraction and a count may lie above a whole number by rounding.
    wanted = jnp.ceil(inputs * jnp.asarray(label_noise) - 1e-4) // 2
    index = jnp.arange(inputs)
    place = jnp.where(index < inputs // 2, index, index - inputs // 2)
    return (place < wanted).astype(float)


def training_tokens(problem: Problem, hyper: Hyper, inputs: int) -> Tokens:
    """Return a run's training data: the noise of its problem with the signals."""
    tokens = (len(problem.plane) - 1) // inputs
    classes = _classes(inputs)
    signal = hyper.signal_norm * _signal(classes, tokens, hyper.rho)
    plane = problem.plane.at[:-1].add(signal.reshape(-1, PLANE))
    flipped = flipped_labels(inputs, hyper.label_noise).astype(plane.dtype)
    scores = _scores(plane[:-1], hyper).reshape(inputs, tokens)
    return Tokens(plane, scores, (classes * (1 - 2 * flipped)).astype(plane.dtype), flipped)


def logits(problem: Problem, data: Tokens, query: Query) -> Float[Array, "inputs tokens"]:
    """Return `x_it . q`."""
    along = data.plane @ (query.coefficients @ data.plane)
    return (problem.gram @ query.coefficients + along)[:-1].reshape(data.scores.shape)


def bartlett(
    drawn: Float[Array, "rows vectors"], dim: Float[Array, ""] | int
) -> Float[Array, "vectors vectors"]:
    """Return the lower triangular factor of the Gram matrix of standard normal vectors in `dim` dimensions.

    `drawn` are normal numbers, in `FACTOR_ROWS` rows more than there are vectors. The norms on the diagonal are made
    of them by Marsaglia and Tsang's rejection, `chi^2 = 2 a (1 + x / (3 sqrt(a)))^3`, `a = freedom / 2 - 1 / 3`, of
    `PROPOSALS` at once; `-ln u` is half the sum of two squares. All this compiles in a tenth of the time of
    `jax.random.gamma`. One in 20 proposals is refused at most, so that all are once in 10^12 draws; the first one is
    taken then. Where there are more vectors than dimensions, the columns beyond are zero.
    """
    x, first, second = drawn[:FACTOR_ROWS].reshape(3, PROPOSALS, -1)
    index = jnp.arange(drawn.shape[1])
    freedom = dim - index
    a = jnp.maximum(freedom, 2) / 2 - 1 / 3
    cube = (1 + x / (3 * jnp.sqrt(a))) ** 3
    safe = jnp.where(cube > 0, cube, 1.0)
    taken = (cube > 0) & (-(first**2 + second**2) < x**2 + 2 * a * (1 - safe + jnp.log(safe)))
    earlier = jnp.cumsum(taken, axis=0) - taken
    chosen = jnp.sum(jnp.where(taken & (earlier == 0), cube, 0.0), axis=0)
    chosen = jnp.where(chosen > 0, chosen, jnp.abs(cube[0]))
    chi = jnp.where(freedom < 2, jnp.abs(x[0]), jnp.sqrt(2 * a * chosen))
    below = jnp.where(index[:, None] > index, drawn[FACTOR_ROWS:], 0.0)
    return jnp.where(freedom > 0, below + jnp.where(index[:, None] == index, chi, 0.0), 0.0)


def _sample(key: PRNGKeyArray, setting: Setting, *, sizes: tuple[int, int, int]) -> Problem:
    inputs, tokens, test_inputs = sizes
    vectors = inputs * tokens + 1
    counts = (vectors * (vectors + FACTOR_ROWS), vectors * PLANE, test_inputs * tokens * (PLANE + 1))
    # One draw for all arrays: each costs half a second of compilation.
    drawn = normal(key, (sum(counts),))
    of_factor, of_plane = drawn[: counts[0]], drawn[counts[0] : counts[0] + counts[1]]
    factor = bartlett(of_factor.reshape(-1, vectors), setting.dim - PLANE)
    return Problem(
        plane=of_plane.reshape(vectors, PLANE),
        gram=factor @ factor.T,
        test=drawn[-counts[2] :].reshape(test_inputs, tokens, PLANE + 1),
        dim=jnp.asarray(setting.dim, factor.dtype),
    )


def _init(key: PRNGKeyArray, problem: Problem, hyper: Hyper, *, vectors: int) -> Query:
    start = hyper.init_scale / jnp.sqrt(problem.dim)
    return Query(jnp.zeros(vectors, problem.gram.dtype).at[-1].set(start))


def _step(key: PRNGKeyArray, problem: Problem, hyper: Hyper, query: Query, *, inputs: int) -> Query:
    data = training_tokens(problem, hyper, inputs)
    attended = jax.nn.softmax(logits(problem, data, query))
    outputs = jnp.sum(attended * data.scores, axis=1)
    slopes = data.labels * jax.nn.sigmoid(-data.labels * outputs) / inputs
    pulls = slopes[:, None] * attended * (data.scores - outputs[:, None])
    moved = hyper.step_size / problem.dim * jnp.append(pulls.reshape(-1), 0.0)
    return Query(query.coefficients + moved)


def _observe(problem: Problem, hyper: Hyper, query: Query, *, inputs: int) -> Metrics:
    data = training_tokens(problem, hyper, inputs)
    attended = jax.nn.softmax(logits(problem, data, query))
    margins = data.labels * jnp.sum(attended * data.scores, axis=1)
    relevant, wrong = attended[:, 0], (margins <= 0).astype(margins.dtype)
    plane = query.coefficients @ data.plane
    across = jnp.sqrt(jnp.maximum(query.coefficients @ problem.gram @ query.coefficients, 0.0))
    length = jnp.sqrt(across**2 + plane @ plane)
    new = _new_inputs(problem, hyper, jnp.append(plane, across))
    return {
        "train_loss": jnp.mean(jax.nn.softplus(-margins)),
        "train_error": jnp.mean(wrong),
        "noisy_error": _mean(wrong, data.flipped),
        "clean_attention": _mean(relevant, 1 - data.flipped),
        "noisy_attention": _mean(relevant, data.flipped),
        "signal_ratio": hyper.signal_norm * jnp.mean(plane) / jnp.where(length > 0, length, 1.0),
        **new,
    }


def _new_inputs(problem: Problem, hyper: Hyper, query: Float[Array, " 3"]) -> Metrics:
    """Return the metrics of new inputs under `q` in their coordinates."""
    count, tokens, _ = problem.test.shape
    classes = _classes(count)
    signal = hyper.signal_norm * _signal(classes, tokens, hyper.rho)
    placed = problem.test.at[:, :, :PLANE].add(signal)
    seen = placed @ query
    attended = jax.nn.softmax(seen)
    margins = classes * jnp.sum(attended * _scores(placed, hyper), axis=1)
    # Without any q all tokens are attended alike, and a first token is not selected by being the first.
    selected = seen[:, 0] > jnp.max(seen[:, 1:], axis=1)
    return {
        "test_loss": jnp.mean(jax.nn.softplus(-margins)),
        "test_error": jnp.mean((margins <= 0).astype(margins.dtype)),
        "test_attention": jnp.mean(attended[:, 0]),
        "test_selected": jnp.mean(selected.astype(margins.dtype)),
    }


def _classes(inputs: int) -> Float[Array, " inputs"]:
    """Return the true classes, +1 for the first half and -1 for the rest."""
    return jnp.where(jnp.arange(inputs) < inputs // 2, 1.0, -1.0)


def _signal(
    classes: Float[Array, " inputs"], tokens: int, rho: Float[Array, ""] | float
) -> Float[Array, "inputs tokens 2"]:
    """Return the share of `mu_+` and of `mu_-` in each token."""
    own = jnp.stack([classes > 0, classes < 0], axis=1).astype(classes.dtype)
    index = jnp.arange(tokens)[:, None]
    share = jnp.where(index == 0, 1.0, jnp.where(index == 1, rho, 0.0))
    return share * own[:, None] + jnp.where(index == 2, rho, 0.0) * own[:, None, ::-1]


def _scores(plane: Float[Array, "*shape coordinates"], hyper: Hyper) -> Float[Array, "*shape"]:
    """Return `nu . x`."""
    return (plane[..., 0] - plane[..., 1]) / (jnp.sqrt(2.0) * hyper.signal_norm)


def _mean(values: Float[Array, " inputs"], chosen: Float[Array, " inputs"]) -> Float[Array, ""]:
    return jnp.sum(values * chosen) / jnp.maximum(jnp.sum(chosen), 1.0)
