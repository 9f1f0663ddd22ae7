"""Networks: the published numbers of parameters, and each form of LeNet against a loop or against flax's own layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_sim.subspace import (
    MLP,
    LeNet,
    digits,
    mlp_parameter_count,
    parameter_count,
    shuffled_pixels,
    teacher_data,
)

FC_GRID = {
    50: (39760, 42310, 44860, 47410, 49960),
    100: (79510, 89610, 99710, 109810, 119910),
    200: (159010, 199210, 239410, 279610, 319810),
    400: (318010, 478410, 638810, 799210, 959610),
}


def test_the_grid_has_the_published_numbers_of_parameters():
    for width, row in FC_GRID.items():
        for depth, published in enumerate(row, start=1):
            assert mlp_parameter_count(784, [width] * depth + [10]) == published
    assert parameter_count(MLP([200, 200, 10]), (28, 28)) == FC_GRID[200][1]


@pytest.mark.parametrize(
    ("form", "mnist", "cifar"),
    [
        ("convolution", 44_426, 62_006),
        ("untied", 286_334, 658_238),
        ("dense", 3_640_574, 16_397_726),
        ("tied", 193_370, 297_734),
    ],
)
def test_lenets_have_the_published_numbers_of_parameters(form, mnist, cifar):
    assert parameter_count(LeNet(form), (28, 28)) == parameter_count(LeNet(form), (28, 28, 1)) == mnist
    assert parameter_count(LeNet(form), (32, 32, 3)) == cifar


SMALL = {"channels": (3, 4), "kernel": 3, "widths": (5, 2)}


def small(form, side):
    model = LeNet(form, **SMALL)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, side, side, 2)))
    draw = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    return model, jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape)), shapes), x


class Reference(nn.Module):
    """The convolutional form by flax's layers."""

    kernel: int = 3
    padding: str = "VALID"

    @nn.compact
    def __call__(self, x):
        for maps in SMALL["channels"]:
            side = 2 * x.shape[1] - 1 if self.padding == "SAME" else 3
            x = nn.Conv(maps, (side, side), padding=self.padding, param_dtype=x.dtype)(x)
            x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
        x = x.transpose(0, 3, 1, 2).transpose(0, 2, 3, 1).reshape(len(x), -1)
        for layer, width in enumerate(SMALL["widths"]):
            x = nn.Dense(width, param_dtype=x.dtype)(nn.relu(x) if layer else x)
        return x


def as_flax(parameters, sides):
    """Our kernels [side * side * channels, maps] are flax's [side, side, channels, maps], flat."""
    given = {f"Dense_{i}": parameters["MLP_0"][f"Dense_{i}"] for i in range(2)}
    for i, side in enumerate(sides):
        kernel = parameters[f"_Layer_{i}"]["kernel"]
        shape = (side, side, -1, kernel.shape[-1])
        given[f"Conv_{i}"] = {"kernel": kernel.reshape(shape), "bias": parameters[f"_Layer_{i}"]["bias"]}
    return given


@pytest.mark.parametrize(
    ("form", "side", "padding", "sides"), [("convolution", 10, "VALID", (3, 3)), ("tied", 4, "SAME", (7, 3))]
)
def test_shared_kernels_are_convolutions(form, side, padding, sides):
    model, parameters, x = small(form, side)
    expected = Reference(padding=padding).apply({"params": as_flax(parameters, sides)}, x)
    np.testing.assert_allclose(model.apply({"params": parameters}, x), expected, rtol=1e-10)


def test_untied_kernels_that_are_equal_are_a_convolution():
    shared, parameters, x = small("convolution", 10)
    untied, own, _ = small("untied", 10)
    copied = jax.tree.map(lambda o: o, own)
    for i in range(2):
        for name in ("kernel", "bias"):
            copied[f"_Layer_{i}"][name] = jnp.broadcast_to(
                parameters[f"_Layer_{i}"][name], own[f"_Layer_{i}"][name].shape
            )
    copied["MLP_0"] = parameters["MLP_0"]
    expected = shared.apply({"params": parameters}, x)
    np.testing.assert_allclose(untied.apply({"params": copied}, x), expected, rtol=1e-10)
    copied["_Layer_0"]["kernel"] = copied["_Layer_0"]["kernel"].at[0, 0].add(1.0)
    assert not np.allclose(untied.apply({"params": copied}, x), expected)


def test_untied_kernels_start_at_the_scale_of_their_own_inputs():
    kernel = LeNet("untied", channels=(8,), kernel=5, widths=(2,)).init(
        jax.random.key(0), jnp.zeros((1, 20, 20))
    )
    values = np.asarray(kernel["params"]["_Layer_0"]["kernel"])
    assert values.shape == (16, 16, 25, 8)
    np.testing.assert_allclose(values.std(), np.sqrt(2 / 25), rtol=5 / np.sqrt(2 * values.size))


def test_the_dense_form_is_a_network_of_dense_layers_with_pooling():
    model, parameters, x = small("dense", 10)
    hidden = x.transpose(0, 3, 1, 2)
    for i, (maps, side) in enumerate(((3, 8), (4, 2))):
        dense = parameters[f"_Layer_{i}"]["Dense_0"]
        hidden = jnp.maximum(hidden.reshape(3, -1) @ dense["kernel"] + dense["bias"], 0)
        hidden = hidden.reshape(3, maps, side // 2, 2, side // 2, 2).max(axis=(3, 5))
    hidden = hidden.transpose(0, 2, 3, 1).reshape(3, -1)
    first, second = (parameters["MLP_0"][f"Dense_{i}"] for i in range(2))
    expected = jnp.maximum(hidden @ first["kernel"] + first["bias"], 0) @ second["kernel"] + second["bias"]
    np.testing.assert_allclose(model.apply({"params": parameters}, x), expected, rtol=1e-10)


def test_images_that_do_not_fit_are_refused():
    for form, shape, message in (
        (
            "round",
            (1, 28, 28),
            "unknown form 'round' of LeNet, expected one of convolution, untied, dense, tied",
        ),
        ("convolution", (1, 8, 8), "a 5 x 5 layer makes -2 x -2 of 2 x 2 pixels; pooling needs even sizes"),
        ("untied", (1, 27, 27), "a 5 x 5 layer makes 23 x 23 of 27 x 27 pixels"),
        (
            "convolution",
            (1, 784),
            r"LeNet takes images \[batch, rows, columns\(, channels\)\], got shape \(1, 784\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(LeNet(form).init, jax.random.key(0), jnp.zeros(shape))


def test_pixels_move_together_in_both_sets():
    data = digits()
    images = data._replace(train_x=data.train_x.reshape(-1, 8, 8), test_x=data.test_x.reshape(-1, 8, 8))
    moved, again = shuffled_pixels(images), shuffled_pixels(images)
    order = np.random.default_rng(0).permutation(64)
    assert moved.train_x.shape == images.train_x.shape
    np.testing.assert_array_equal(moved.test_x.reshape(-1, 64), data.test_x[:, order])
    np.testing.assert_array_equal(moved.train_x.reshape(-1, 64), data.train_x[:, order])
    np.testing.assert_array_equal(moved.train_x, again.train_x)
    assert not np.array_equal(shuffled_pixels(images, seed=1).train_x, moved.train_x)


def test_teachers_of_one_seed_share_their_features_alone():
    first, other, unrelated = teacher_data(), teacher_data(head=1), teacher_data(features=1)
    np.testing.assert_array_equal(first.train_x, other.train_x)
    assert not np.array_equal(first.train_x, unrelated.train_x)
    assert np.mean(first.train_y == other.train_y) < 0.6
    np.testing.assert_array_equal(first.train_y, teacher_data().train_y)
    assert np.bincount(first.train_y, minlength=4).min() > 100
    assert [len(part) for part in first] == [2000, 2000, 1000, 1000]
    alike = teacher_data(head=1, likeness=0.9)
    assert np.mean(first.train_y == other.train_y) < np.mean(first.train_y == alike.train_y) < 0.95
    np.testing.assert_array_equal(teacher_data(head=1, likeness=1.0).train_y, first.train_y)
    with pytest.raises(ValueError, match="likeness must lie between 0 and 1, got 2"):
        teacher_data(likeness=2)
    with pytest.raises(ValueError, match="hidden <= dim"):
        teacher_data(dim=3, hidden=4)
    with pytest.raises(ValueError, match="two classes"):
        teacher_data(classes=1)


def test_networks_have_the_predicted_number_of_parameters():
    for widths in ([10], [50, 10], [200, 200, 10]):
        shapes = jax.eval_shape(MLP(widths).init, jax.random.key(0), jnp.zeros((1, 28, 28)))
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == mlp_parameter_count(784, widths)


def test_weights_are_he_normal_and_biases_zero():
    parameters = MLP([400, 10]).init(jax.random.key(0), jnp.zeros((1, 200)))["params"]
    kernel = np.asarray(parameters["Dense_0"]["kernel"])
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / 200), rtol=4 / np.sqrt(2 * kernel.size))
    assert not np.any(parameters["Dense_0"]["bias"])
    assert kernel.dtype == np.float64
