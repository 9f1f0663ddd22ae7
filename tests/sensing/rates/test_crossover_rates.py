"""When the asymmetric descent overtakes the symmetric one: theory against simulation, and its law in alpha."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.sensing import asymmetric_gd, symmetric_gd, symmetry_crossover
from theory_sim.simulation import trajectory

STEPS = np.arange(0, 201, 2)
VALUES, RATIO, DIM, RANK = [1.0, 0.5], 1 / 3, 20, 4


@pytest.fixture(scope="module")
def errors():
    """The errors of both from 64 starts of each of three scales, `[scale, start, step]`."""
    sizes = {"true_rank": 2, "max_rank": RANK}

    def runs(simulation):
        setting = simulation.setting._replace(condition_number=2.0)
        problem = simulation.sample(jax.random.key(0), setting)
        run = trajectory(simulation._replace(conclude=None), STEPS)

        def error(key, scale):
            hyper = simulation.hyper._replace(step_size=0.2, init_scale=scale)
            return run(key, problem, hyper)["error"]

        keys = jax.random.split(jax.random.key(1), 64)
        many = jax.vmap(jax.vmap(error, (0, None)), (None, 0))
        return np.asarray(jax.jit(many)(keys, jnp.array([0.01, 0.03, 0.1])))

    return runs(symmetric_gd(dim=DIM, **sizes)), runs(asymmetric_gd(rows=DIM, cols=DIM, **sizes))


@pytest.mark.parametrize(("place", "scale"), list(enumerate([0.01, 0.03, 0.1])))
def test_the_crossover_of_small_starts(errors, place, scale):
    symmetric, asymmetric = (each[place] for each in errors)
    behind = asymmetric > symmetric
    last = np.array([STEPS[np.flatnonzero(run)[-1]] if run.any() else 0 for run in behind]) + 1
    predicted = symmetry_crossover(scale, RATIO, DIM, RANK, VALUES, 0.2)
    # The share of runs that cross sooner is a half, if that is the median, with a deviation of 1/16.
    assert abs((last < predicted).mean() - 0.5) < 3.5 / 16
    assert abs(np.median(last) / predicted - 1) < 0.15


def test_the_crossover_is_later_by_two_over_eta_sigma_for_e_times_less_alpha():
    scales, step_size = np.array([1e-5, 1e-4, 1e-3]), 0.01
    crossed = [symmetry_crossover(scale, RATIO, DIM, RANK, VALUES, step_size) for scale in scales]
    np.testing.assert_allclose(-np.diff(crossed) / np.log(10), 2 / (step_size * 0.5), rtol=0.005)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rank": 2}, "rank > 2"),
        ({"right_scale": 2.0}, "right_scale <= 1"),
        ({"init_scale": 0.7}, "do not cross"),
    ],
)
def test_what_has_no_crossover_is_refused(changed, told):
    given = {"init_scale": 1e-3, "right_scale": 1 / 3, "dim": 20, "rank": 4, "step_size": 0.01} | changed
    with pytest.raises(ValueError, match=told):
        symmetry_crossover(singular_values=[1.0, 0.5], **given)
