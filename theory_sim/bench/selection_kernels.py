"""Token selection by normalised steps, at the size of the published local-convergence experiment."""

import numpy as np

from theory_sim.attention import token_selection
from theory_sim.bench import plain_numpy
from theory_sim.bench.kernels import Kernel, Step, batch, flops_of, nbytes


def weights_selection(*, runs: int = 64, steps: int = 1000) -> Kernel:
    """Attention weights on six sequences of eight tokens in ten dimensions, many runs of one problem."""
    simulation = token_selection(inputs=6, tokens=8, dim=10)
    step_sizes = np.geomspace(0.05, 0.5, runs)
    call, problem, state = batch(simulation, runs, steps, {"step_size": step_sizes})
    tokens, queries, labels, head = (np.asarray(part) for part in problem)
    scores = labels[:, None] * (tokens @ head)

    def numpy() -> Step:
        weights = np.zeros((10, 10))

        def step() -> None:
            nonlocal weights
            weights = plain_numpy.selection_step(weights, tokens, queries, scores, 0.1)

        return step

    def torch() -> Step:
        from theory_sim.bench import plain_torch

        return plain_torch.selection(tokens, queries, labels, head, step_size=0.1)

    flops = flops_of(simulation, problem, state)
    name = "attention.token_selection n=6 T=8 d=10"
    return Kernel(name, runs, steps, call, flops, 0.0, 2.0 * nbytes(state), numpy, torch)
