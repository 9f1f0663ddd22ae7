"""A rotation of all parameters as a projection: what a subspace of full dimension does to an optimiser."""

from jaxtyping import PRNGKeyArray

from theory_sim.decompositions import orthonormal_rows
from theory_sim.draws import normal
from theory_sim.subspace.dense import DenseProjection, stored
from theory_sim.subspace.linear_maps import check_sizes


def orthonormal_projection(key: PRNGKeyArray, ambient: int, dim: int) -> DenseProjection:
    """Draw `dim` orthonormal columns uniformly: a random rotation (or reflection) when `dim` is D = `ambient`.

    Gram-Schmidt on Gaussian columns, O(D d^2), for small D. Raises ValueError unless 1 <= dim <= ambient.
    """
    check_sizes(ambient, dim)
    return stored(orthonormal_rows(normal(key, (dim, ambient))))
