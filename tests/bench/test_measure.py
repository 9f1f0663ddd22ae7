"""A kernel is chosen by the name that the table prints, and the cost of a preset by the presets that there are."""

import pytest

from theory_sim import RequestError
from theory_sim.bench import Kernel, print_costs
from theory_sim.bench.measure import chosen


@pytest.fixture
def named(monkeypatch):
    """Return the names of the kernels that are chosen, and of those that were made for it."""
    made = []

    def maker(name):
        def make():
            made.append(name)
            return Kernel(name, 1, 1, lambda: None, 0.0, 0.0, 0.0, lambda: lambda: None, None)

        return make

    printed = {
        "sensing.symmetric_gd": ["n=50 m=1000"],
        "sensing.asymmetric_gd": ["n=50 m=1000"],
        "attention.pattern_transformer": ["d=16 m=64", "d=64 m=512"],
        "subspace.dense_projection": ["apply D=9", "transpose D=9"],
    }
    makers = {name: tuple(maker(f"{name} {size}") for size in sizes) for name, sizes in printed.items()}
    monkeypatch.setitem(chosen.__globals__, "KERNELS", makers)  # the package's `measure` is the function

    def choose(only):
        made.clear()
        return [kernel.name for kernel in chosen(only)], len(made)

    return choose


@pytest.mark.parametrize(
    ("only", "found", "made"),
    [
        ("", 6, 6),
        ("transformer", 2, 2),
        ("sensing", 2, 2),
        ("attention", 2, 2),
        ("symmetric_gd", 1, 1),
        ("sensing.symmetric_gd", 1, 1),
        ("attention.pattern_transformer d=16 m=64", 1, 2),
        ("dense_projection apply", 1, 2),
    ],
)
def test_a_kernel_is_chosen_by_its_printed_name_and_no_other_is_made(named, only, found, made):
    names, count = named(only)
    assert len(names) == found
    assert all(only in name for name in names)
    assert count == made


def test_an_unknown_kernel_is_told_the_nearest(named):
    with pytest.raises(RequestError, match=r"did you mean 'sensing\.symmetric_gd'"):
        named("sensing.symetric_gd")
    with pytest.raises(RequestError, match="did you mean 'attention'"):
        named("atention")
    with pytest.raises(RequestError, match=r"did you mean 'attention\.pattern_transformer d=16 m=64'"):
        named("attention.pattern_transformer d=17 m=64")


def test_an_unknown_preset_has_no_cost(tmp_path, monkeypatch):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "one.py").write_text(
        "import theory_sim as t\nfrom tests.examples import scalar_descent\n"
        "SWEEP = t.Sweep(scalar_descent, presets={'paper': {}})\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="unknown preset 'ppaer'; did you mean 'paper'"):
        print_costs("ppaer")
