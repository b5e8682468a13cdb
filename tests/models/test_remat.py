"""What a backward pass recomputes: fewer residuals for more work, and none of it in an attack."""

import jax
import jax.numpy as jnp
import pytest

from nofrost_jax import costs, models

SIZE, N = 32, 2


def operations(fn, *arguments):
    return jax.jit(fn).lower(*arguments).cost_analysis()["flops"]


@pytest.mark.parametrize("name", ["nf_resnet26", "resnet26"])
@pytest.mark.slow
def test_policies_trade_residuals_for_work_in_training_alone(monkeypatch, name):
    """From shapes and from the program before XLA's optimizations; at 64 channels a block's convolutions outweigh all
    else. `convolutions` recomputes none of them, `blocks` nearly a forward pass: a third of the step."""
    monkeypatch.setenv("NOFROST_CONV", "xla")
    kept, training, attack = {}, {}, {}
    for remat in models.REMAT:
        model = models.create(name, remat=remat, stem="small", drop_path=0.1)
        variables = models.abstract_variables(model, SIZE)
        images = jax.ShapeDtypeStruct((N, SIZE, SIZE, 3), jnp.float32)
        image_keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), N))

        def loss(params, variables, x, image_keys, model=model):
            options = {"train": True, "image_keys": image_keys, "mutable": ["batch_stats"]}
            return model.apply(variables | {"params": params}, x, **options)[0].sum()

        kept[remat] = costs.residual_bytes(model, variables, SIZE)
        training[remat] = operations(jax.grad(loss), variables["params"], variables, images, image_keys)
        to_images = jax.grad(lambda x, variables, model=model: model.apply(variables, x).sum())
        attack[remat] = operations(to_images, images, variables)
    assert kept["none"] > 1.2 * kept["convolutions"] and kept["convolutions"] > 1.4 * kept["blocks"]
    assert training["convolutions"] < 1.02 * training["none"]
    assert 1.15 < training["blocks"] / training["none"] < 1.4
    assert len(set(attack.values())) == 1
