r"""Low-rank adapters whose factors live in one subspace: `theta_D = P theta_d`, `Delta W = B A` (arXiv:2506.00799).

`theta_D` holds B [rows, rank] and A [rank, cols] of every layer in turn. Uni-LoRA is this with a one-hot P; VeRA, with
a P of its own (SU-A3-F3).
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from theory_sim.draws import normal, uniform
from theory_sim.simulation import Metrics, Simulation, Variable
from theory_sim.subspace.linear_maps import Projection, Restricted
from theory_sim.subspace.projections import projection_named


@flax.struct.dataclass
class VeraProjection:
    """Block-diagonal: in each layer, coordinate i scales row i of a frozen B, and then k row k of a frozen A."""

    left: Float[Array, "rows rank"]
    right: Float[Array, "rank cols"]
    layers: int = flax.struct.field(pytree_node=False)

    def apply(self, x: Float[Array, " d"]) -> Float[Array, " D"]:
        """Return `P x`: the entries of `diag(b) B`, then of `diag(d) A`, for each layer."""
        scales = x.reshape(self.layers, -1)
        rows = len(self.left)
        left, right = scales[:, :rows, None] * self.left, scales[:, rows:, None] * self.right
        return jnp.concatenate(
            [left.reshape(self.layers, -1), right.reshape(self.layers, -1)], axis=1
        ).ravel()

    def transpose(self, y: Float[Array, " D"]) -> Float[Array, " d"]:
        """Return `P^T y`."""
        flat = y.reshape(self.layers, -1)
        left = flat[:, : self.left.size].reshape(self.layers, *self.left.shape)
        right = flat[:, self.left.size :].reshape(self.layers, *self.right.shape)
        parts = [jnp.sum(left * self.left, axis=2), jnp.sum(right * self.right, axis=2)]
        return jnp.concatenate(parts, axis=1).ravel()

    def gram(self) -> Float[Array, "d d"]:
        """Return `P^T P`: diagonal, since the coordinates scale different entries."""
        squares = jnp.concatenate([jnp.sum(self.left**2, axis=1), jnp.sum(self.right**2, axis=1)])
        return jnp.diag(jnp.tile(squares, self.layers))

    def restricted(self, dim: Int[Array, ""] | int) -> Restricted:
        """Return the first `dim` columns, the others counting as zero."""
        return Restricted(self, dim)


def vera_projection(key: PRNGKeyArray, *, rows: int, cols: int, rank: int, layers: int = 1) -> VeraProjection:
    """Draw VeRA's frozen factors, shared by all layers, from U(+-sqrt(6 / inputs)) (Kaiming, uniform).

    Columns are orthogonal and not of unit norm: squared norms have mean 2 and standard deviation `sqrt(3.2/rank)`
    for the rows of B and `sqrt(3.2/cols)` for those of A. Source: derived in SU-A3-F4.
    """
    flat = uniform(key, (rows * rank + rank * cols,))
    left, right = flat[: rows * rank].reshape(rows, rank), flat[rows * rank :].reshape(rank, cols)
    return VeraProjection((2 * left - 1) * jnp.sqrt(6 / rank), (2 * right - 1) * jnp.sqrt(6 / cols), layers)


class AdapterSetting(NamedTuple):
    """There is nothing to vary in how a projection and a target are drawn."""


class AdapterHyper(NamedTuple):
    """Run axes: `dim` of the subspace, `step_size`, the half width `start` of theta_d's uniform start.

    `projected` says what moves the parameters beside theta_d: 1, the gradient through `P P^T`; 0, the whole gradient.
    """

    dim: int | Int[Array, ""] = 100
    step_size: float | Float[Array, ""] = 0.5
    start: float | Float[Array, ""] = 0.02
    projected: int | Int[Array, ""] = 1


class AdapterProblem(NamedTuple):
    """P, the matrices that the adapters should become, and a direction that P is tried on."""

    projection: Projection
    targets: Float[Array, "layers rows cols"]
    direction: Float[Array, " D"]


class AdapterState(NamedTuple):
    """`coordinates` is theta_d; `parameters` is a theta_D that moves beside it, by gradients of its own."""

    coordinates: Float[Array, " d"]
    parameters: Float[Array, " D"]


def shared_adapters(
    *,
    projection: str = "one_hot",
    rows: int = 25,
    cols: int = 100,
    rank: int = 4,
    layers: int = 2,
    max_dim: int = 100,
) -> Simulation:
    """Fit planted matrices by gradient descent on adapters in a subspace, and look at the Gram matrix of P.

    The loss is half the squared distance of all `B A` from random targets of unit norm and rank `rank`; D =
    `layers rank (rows + cols)`. Metrics: `loss`, and `gap`, the relative distance of `P theta_d` from a theta_D that
    descends by itself, its gradient passed through `P P^T` (SU-A3-2). At the end, of the columns `P e_j`, j < `dim`:
    `norm` and `norm_square_error`, means of squared column norms and of their squared distance from 1; `overlap`, mean
    square off the diagonal of `P^T P`; `isometry_error`, its largest distance from the identity; `transpose_error`,
    relative distance of `P^T g` from the columns' products with a random g; `first_*` and `last_*`, mean and
    mean square of the squared norms of the first `rows` columns and of the next `rank`; `projector_error`, relative
    distance of `(P P^T)^2 g` from `P P^T g`; and `update_square`, the mean square of `Delta W` at the start.

    `projection` is a name of PROJECTIONS or "vera", whose own `layers (rows + rank)` must not exceed `max_dim`.
    Raises ValueError for others, sizes below 1, and max_dim outside 1 .. D. Source: arXiv:2506.00799 (SU-A3-F1).
    """
    for name, value in (("rows", rows), ("cols", cols), ("rank", rank), ("layers", layers)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    ambient, vera = layers * rank * (rows + cols), projection == "vera"
    draw = None if vera else projection_named(projection)
    if not 1 <= max_dim <= ambient:
        raise ValueError(f"max_dim must lie between 1 and the {ambient} parameters, got {max_dim}")
    width = layers * (rows + rank) if vera else max_dim
    if width > max_dim:
        raise ValueError(f"max_dim must be at least VeRA's {width} coordinates, got {max_dim}")

    def update_of(parameters: Float[Array, " D"]) -> Float[Array, "layers rows cols"]:
        flat = parameters.reshape(layers, -1)
        left = flat[:, : rows * rank].reshape(layers, rows, rank)
        return left @ flat[:, rows * rank :].reshape(layers, rank, cols)

    def loss_of(
        parameters: Float[Array, " D"], targets: Float[Array, "layers rows cols"]
    ) -> Float[Array, ""]:
        return jnp.sum((update_of(parameters) - targets) ** 2) / 2

    def columns_of(p: Projection, direction: Float[Array, " D"]) -> tuple[Array, Array]:
        # By the columns that `apply` makes: some projections know their Gram matrix in closed form, and what that form
        # says of them would be no measurement.
        if isinstance(p, Restricted):
            # The first columns of one matrix, which all runs of a problem share.
            kept = jnp.arange(width) < p.dim
            gram, inner = columns_of(p.projection, direction)
            return jnp.where(kept[:, None] & kept, gram, 0), jnp.where(kept, inner, 0)
        columns = jax.vmap(p.apply)(jnp.eye(width, dtype=direction.dtype))
        return columns @ columns.T, columns @ direction

    def sample(key: PRNGKeyArray, setting: AdapterSetting) -> AdapterProblem:
        projection_key, target_key = jax.random.split(key)
        if draw is None:
            drawn: Any = vera_projection(projection_key, rows=rows, cols=cols, rank=rank, layers=layers)
        else:
            drawn = draw(projection_key, ambient, max_dim)
        flat = normal(target_key, (2 * ambient,))
        targets = update_of(flat[:ambient])
        norms = jnp.sqrt(jnp.sum(targets**2, axis=(1, 2), keepdims=True))
        return AdapterProblem(drawn, targets / norms, flat[ambient:])

    def init(key: PRNGKeyArray, problem: AdapterProblem, hyper: AdapterHyper) -> AdapterState:
        coordinates = hyper.start * (2 * uniform(key, (width,)) - 1)
        coordinates = jnp.where(jnp.arange(width) < hyper.dim, coordinates, 0)
        return AdapterState(coordinates, problem.projection.restricted(hyper.dim).apply(coordinates))

    def step(
        key: PRNGKeyArray, problem: AdapterProblem, hyper: AdapterHyper, state: AdapterState
    ) -> AdapterState:
        p = problem.projection.restricted(hyper.dim)
        gradient = jax.grad(loss_of)(p.apply(state.coordinates), problem.targets)
        beside = jax.grad(loss_of)(state.parameters, problem.targets)
        beside = jnp.where(hyper.projected, p.apply(p.transpose(beside)), beside)
        return AdapterState(
            state.coordinates - hyper.step_size * p.transpose(gradient),
            state.parameters - hyper.step_size * beside,
        )

    def observe(problem: AdapterProblem, hyper: AdapterHyper, state: AdapterState) -> Metrics:
        parameters = problem.projection.restricted(hyper.dim).apply(state.coordinates)
        away = jnp.linalg.norm(parameters - state.parameters)
        return {
            "loss": loss_of(parameters, problem.targets),
            "gap": away / jnp.maximum(jnp.linalg.norm(parameters), jnp.finfo(parameters.dtype).tiny),
            "_update": jnp.mean(update_of(parameters) ** 2),
        }

    def conclude(
        problem: AdapterProblem, hyper: AdapterHyper, records: Metrics, state: AdapterState
    ) -> Metrics:
        p = problem.projection.restricted(hyper.dim)
        used = jnp.arange(width) < hyper.dim
        count = jnp.minimum(hyper.dim, width)
        gram, inner = columns_of(p, problem.direction)
        back = p.transpose(problem.direction)
        norms = jnp.diagonal(gram)
        away = gram - jnp.diag(used.astype(gram.dtype))
        off = gram - jnp.diag(norms)
        image = p.apply(back)
        twice = p.apply(p.transpose(image))
        first, last = norms[:rows], norms[rows : rows + rank]
        return {
            "norm": jnp.sum(norms) / count,
            "norm_square_error": jnp.sum(jnp.where(used, norms - 1, 0) ** 2) / count,
            "overlap": jnp.sum(off**2) / jnp.maximum(count * (count - 1), 1),
            "isometry_error": jnp.max(jnp.abs(away)),
            "transpose_error": jnp.linalg.norm(back - inner) / jnp.linalg.norm(back),
            "first_mean": jnp.mean(first),
            "first_square": jnp.mean(first**2),
            "last_mean": jnp.mean(last),
            "last_square": jnp.mean(last**2),
            "projector_error": jnp.linalg.norm(twice - image) / jnp.linalg.norm(image),
            "update_square": records["_update"][0],
        }

    return Simulation(
        sample=sample,
        init=init,
        step=step,
        observe=observe,
        setting=AdapterSetting(),
        hyper=AdapterHyper(),
        conclude=conclude,
        variables={
            "loss": Variable("half the squared distance from the targets"),
            "gap": Variable("relative distance of both descents"),
            "norm": Variable("squared column norm"),
            "norm_square_error": Variable("squared distance of squared column norms from 1"),
            "overlap": Variable("squared entry of P^T P off the diagonal"),
            "isometry_error": Variable("largest entry of P^T P - I"),
            "transpose_error": Variable("relative distance of P^T g from the columns' products with g"),
            "first_mean": Variable("squared norm of the first columns"),
            "first_square": Variable("its square"),
            "last_mean": Variable("squared norm of the next columns"),
            "last_square": Variable("its square"),
            "projector_error": Variable("relative distance of (P P^T)^2 g from P P^T g"),
            "update_square": Variable("mean square of the adapters at the start"),
        },
        limits={"dim": (1, max_dim), "projected": (0, 1)},
    )
