r"""Training a network in a random subspace of its parameters: `theta = theta_0 + P theta_d`.

`theta_d` starts at zero and is the only thing trained (SU-A1-F1). A problem is a projection; a run draws the
initial weights and its minibatches. Runs of all dimensions and run seeds share one projection, so that
`P theta_d` over a batch of runs is one matrix product.

Any flax module, data and optax optimiser will do:

>>> import flax.linen as nn, jax, optax
>>> from theory_sim import trajectory
>>> from theory_sim.subspace import subspace_training, teacher_data
>>> model = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(4)])
>>> training = subspace_training(model, teacher_data(), max_dim=200, projection="fastfood", optimizer=optax.adam)
>>> projection = training.sample(jax.random.key(0), training.setting)
>>> run = jax.jit(trajectory(training, [500]))
>>> def accuracy(dim):
...     hyper = training.hyper._replace(dim=dim, step_size=0.1)
...     return float(run(jax.random.key(1), projection, hyper)["test_accuracy"][-1])
>>> accuracy(5) < 0.5 < accuracy(50) < accuracy(200)
True
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from theory_sim.simulation import Metrics, Simulation
from theory_sim.subspace.classification import Classifier, classifier
from theory_sim.subspace.dense import dense_projection
from theory_sim.subspace.examples import Examples
from theory_sim.subspace.linear_maps import Projection
from theory_sim.subspace.projections import projection_named
from theory_sim.subspace.sparse import sparse_projection
from theory_sim.subspace.tensorwise import tensorwise_projection

STRUCTURES = ("whole", "tensors", "scaled_tensors")
Draw = Callable[[PRNGKeyArray, int, int], Projection]


class SubspaceSetting(NamedTuple):
    """There is nothing to vary in how a projection is drawn."""


class SubspaceHyper(NamedTuple):
    """Run axes: the subspace dimension (0: all parameters are trained directly), two step sizes, the data's size.

    `step_size` moves `theta_d`, `direct_step_size` the parameters themselves when `dim` is 0. With unit columns a
    step of Adam of size s in d coordinates moves the parameters as far as a direct step of `s sqrt(d/D)`. The first
    `examples` training examples are used, or all (0).
    """

    dim: int | Int[Array, ""] = 10
    step_size: float | Float[Array, ""] = 0.02
    direct_step_size: float | Float[Array, ""] = 1e-3
    examples: int | Int[Array, ""] = 0


class SubspaceState(NamedTuple):
    """`start` [D] is theta_0; `moved` [D] is theta_d followed by zeros or, in direct training, theta - theta_0.

    Without room for direct training `moved` is theta_d alone. `optimizer` is what the optimiser keeps of theta_d or,
    with room for direct training, the pair of what it keeps of the tree of parameters and of theta_d.
    """

    start: Float[Array, " D"]
    moved: Float[Array, " moved"]
    optimizer: PyTree


class DirectState(NamedTuple):
    """The parameters of a network that is trained directly, as the module has them, and what the optimiser keeps."""

    parameters: PyTree
    optimizer: PyTree


def subspace_training(
    model: nn.Module,
    data: tuple[Any, Any, Any, Any],
    *,
    max_dim: int,
    projection: str | Draw = "dense",
    structure: str = "whole",
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.adam,
    batch_size: int = 128,
    evaluated: int | None = None,
    dtype: Any = None,
    direct: bool = True,
    l2: float = 0.0,
) -> Simulation:
    """Train a classifier in a random subspace of dimension `dim` <= `max_dim`, or directly when `dim` is 0.

    `model` is any flax module whose only variables are parameters and whose call gives logits [batch, classes];
    `data` is (train_x, train_y, test_x, test_y), features that are bytes (uint8) being read as grey levels, divided
    by 255, and other whole numbers as tokens. `projection` is a name or a function `(key, ambient, dim) ->
    Projection`; `structure` is "whole" (one for all parameters; a sparse one has the density of each tensor),
    "tensors" (a block for each tensor, DID) or "scaled_tensors" (SAID: the first coordinates of `theta_d`, one for
    each tensor, scale its block by one plus their value, and count in `dim`). `optimizer` is any optax constructor
    that takes the learning rate (the published runs use `partial(optax.adam, b2=0.99)` and `l2` 1e-4; neither is a
    default). In a subspace it sees `theta_d`, one vector that is zero beyond `dim`; in direct training the tree of
    parameters, in every program. Weight decay acts on what it sees. `dtype` is the floating type of weights,
    projection and data, the default one unless given: networks need no float64.

    One program for both kinds of training does the work of both. `direct=False` leaves direct training out, and with
    it all work of the optimiser on D numbers; `max_dim=0` leaves the subspaces out: its problem is empty, its state a
    `DirectState`, and its curves are those of `dim` 0 up to rounding.

    The loss is the mean cross-entropy; training adds `l2` times the sum of the squares of the network's kernels
    (parameters of two axes or more), in a subspace too (SU-A1-I1). The `batch_size` examples of a step are drawn
    independently and uniformly from the step's key (with replacement: no epochs, and no permutation to sort at every
    step). Metrics: `train_loss` and `train_accuracy` over the training examples (the first `evaluated` of them, if
    given), `test_loss` and `test_accuracy`.

    Raises ValueError for an unknown projection or structure, `max_dim` that is no whole number, outside 0 .. D or
    without room for the scales, nothing to train (`max_dim=0, direct=False`), an optimiser in the place of its
    constructor, a batch size or `evaluated` below 1, a negative `l2`, a model that does not take the examples,
    labels that are not 0 .. classes - 1, and examples that disagree in number or shape, or in whether they are bytes.
    Source: arXiv:1804.08838 (SU-A1-F1, SU-A1-F2, SU-A1-I1), arXiv:2012.13255 (SU-A2-F1, SU-A2-F2).
    """
    if not callable(projection):
        projection_named(projection)
    if callable(projection) and structure != "whole":
        raise ValueError(f"structure {structure!r} needs the name of a projection, got {projection!r}")
    if structure not in STRUCTURES:
        raise ValueError(f"unknown structure {structure!r}, expected one of {', '.join(STRUCTURES)}")
    network = classifier(
        model, data, optimizer, batch_size=batch_size, evaluated=evaluated, dtype=dtype, l2=l2
    )
    sizes = [leaf.size for leaf in jax.tree.leaves(network.shapes)]
    ambient, floating = sum(sizes), network.floating
    if isinstance(max_dim, bool) or not isinstance(max_dim, int | np.integer):
        raise ValueError(f"max_dim must be a whole number, got {max_dim!r}")
    if not 0 <= max_dim <= ambient:
        raise ValueError(
            f"max_dim must lie between 1 and the {ambient} parameters of the model, or be 0 for direct training"
            f" alone, got {max_dim}"
        )
    if max_dim == 0 and not direct:
        raise ValueError("max_dim=0 leaves direct training alone, and direct=False nothing: nothing to train")
    if max_dim == 0:
        return _direct_training(network, optimizer)
    scales = len(sizes) if structure == "scaled_tensors" else 0
    if max_dim <= scales:
        raise ValueError(f"max_dim must exceed the {scales} scales of the model's tensors, got {max_dim}")

    draw = _drawing(projection, structure, sizes, floating)
    # How many numbers a run moves at most: theta_d, or all parameters where some runs train them directly.
    length = ambient if direct else max_dim

    def sample(key: PRNGKeyArray, setting: SubspaceSetting) -> Projection:
        return _cast(draw(key, ambient, max_dim - scales), floating)

    def displaced(problem: Any, hyper: SubspaceHyper, state: SubspaceState) -> tuple[Any, Array, Array]:
        """Return the projection of this run's dimension, its image of theta_d, and the scales at all parameters."""
        restricted = problem.restricted(jnp.maximum(hyper.dim - scales, 0))
        factors = 1 + problem.spread(state.moved[:scales]) if scales else jnp.ones((), floating)
        return restricted, restricted.apply(state.moved[scales:max_dim]), factors

    def parameters_of(hyper: SubspaceHyper, state: SubspaceState, image: Array, factors: Array) -> Array:
        # One vector of length D serves both kinds of run. It costs a subspace run the optimiser's work on D numbers
        # beside d: 2 to 8 % of a step (D = 8970, d = 400, 64 runs on a CPU), less than the noise of the clock;
        # with a projection as cheap as one-hot it is more.
        moved = factors * image
        return state.start + (jnp.where(hyper.dim == 0, state.moved, moved) if direct else moved)

    def init(key: PRNGKeyArray, problem: Projection, hyper: SubspaceHyper) -> SubspaceState:
        start = network.flat(network.init(key))
        moved = jnp.zeros(length, floating)
        memory = optimizer(hyper.step_size).init(moved[:max_dim])
        if direct:
            memory = (optimizer(hyper.direct_step_size).init(network.tree(start)), memory)
        return SubspaceState(start, moved, memory)

    def step(
        examples: Examples, key: PRNGKeyArray, problem: Projection, hyper: SubspaceHyper, state: SubspaceState
    ) -> SubspaceState:
        batch = network.minibatch(examples, key, hyper.examples)
        restricted, image, factors = displaced(problem, hyper, state)
        parameters = parameters_of(hyper, state, image, factors)
        gradient = jax.grad(lambda vector: network.loss(network.tree(vector), batch))(parameters)
        pulled_back = restricted.transpose(factors * gradient)
        if scales:
            of_tensors = [piece.sum() for piece in jnp.split(image * gradient, np.cumsum(sizes)[:-1])]
            pulled_back = jnp.concatenate([jnp.stack(of_tensors), pulled_back])
        trained = jnp.arange(max_dim) < hyper.dim
        of_tree, of_vector = state.optimizer if direct else (None, state.optimizer)
        update, of_vector = optimizer(hyper.step_size).update(
            jnp.where(trained, pulled_back, 0), of_vector, state.moved[:max_dim]
        )
        update = jnp.where(trained, update, 0)
        if not direct:
            return SubspaceState(state.start, optax.apply_updates(state.moved, update), of_vector)
        # Both kinds of run keep the memories of both: the tree is what an optimiser sees that treats tensors apart.
        whole, of_tree = optimizer(hyper.direct_step_size).update(
            network.tree(gradient), of_tree, network.tree(parameters)
        )
        update = jnp.where(hyper.dim == 0, network.flat(whole), jnp.pad(update, (0, length - max_dim)))
        return SubspaceState(state.start, optax.apply_updates(state.moved, update), (of_tree, of_vector))

    def observe(
        sets: tuple[Examples, Examples], problem: Projection, hyper: SubspaceHyper, state: SubspaceState
    ) -> Metrics:
        _, image, factors = displaced(problem, hyper, state)
        parameters = parameters_of(hyper, state, image, factors)
        return network.metrics(network.tree(parameters), sets, hyper.examples)

    return Simulation(
        sample=sample,
        init=init,
        # Bound as arguments, not captured: the data never become constants of the compiled program.
        step=jax.tree_util.Partial(step, network.train),
        observe=jax.tree_util.Partial(observe, network.evaluated),
        setting=SubspaceSetting(),
        hyper=SubspaceHyper(),
        variables=network.variables,
        limits={"dim": (0 if direct else 1, max_dim), "examples": (0, len(network.train.y))},
        caution=_caution(scales) if scales else None,
    )


def _direct_training(
    network: Classifier, optimizer: Callable[[Any], optax.GradientTransformation]
) -> Simulation:
    """Training of all parameters alone, tensor by tensor: no vector of length D is made."""

    def init(key: PRNGKeyArray, problem: Any, hyper: SubspaceHyper) -> DirectState:
        parameters = network.init(key)
        return DirectState(parameters, optimizer(hyper.direct_step_size).init(parameters))

    def step(
        examples: Examples, key: PRNGKeyArray, problem: Any, hyper: SubspaceHyper, state: DirectState
    ) -> DirectState:
        batch = network.minibatch(examples, key, hyper.examples)
        gradient = jax.grad(network.loss)(state.parameters, batch)
        update, memory = optimizer(hyper.direct_step_size).update(gradient, state.optimizer, state.parameters)
        return DirectState(optax.apply_updates(state.parameters, update), memory)

    def observe(
        sets: tuple[Examples, Examples], problem: Any, hyper: SubspaceHyper, state: DirectState
    ) -> Metrics:
        return network.metrics(state.parameters, sets, hyper.examples)

    return Simulation(
        sample=lambda key, setting: (),
        init=init,
        step=jax.tree_util.Partial(step, network.train),
        observe=jax.tree_util.Partial(observe, network.evaluated),
        setting=SubspaceSetting(),
        hyper=SubspaceHyper(dim=0),
        variables=network.variables,
        limits={"dim": (0, 0), "examples": (0, len(network.train.y))},
    )


def _drawing(projection: str | Draw, structure: str, sizes: Sequence[int], floating: Any) -> Draw:
    """Return what draws the projection of a network whose tensors have these sizes, in that floating type.

    What only a dense one needs: the others hold so little that they are drawn in the default type and rounded.
    """
    if callable(projection):
        return projection
    if structure != "whole":
        return tensorwise_projection(projection, sizes, dtype=floating)
    if projection == "dense":
        return partial(dense_projection, dtype=floating)
    if projection == "sparse":
        return partial(sparse_projection, sizes=sizes)
    return projection_named(projection)


def _caution(scales: int) -> Callable[[Any, Any], dict[str, np.ndarray]]:
    def caution(setting: SubspaceSetting, hyper: SubspaceHyper) -> dict[str, np.ndarray]:
        dim = np.asarray(hyper.dim)
        told = f"the {scales} scales of the tensors take the whole budget: nothing moves"
        return {told: (dim > 0) & (dim <= scales)}

    return caution


def _cast(tree: Any, floating: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(floating) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
