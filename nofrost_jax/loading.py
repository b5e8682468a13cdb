"""`nofrost_jax.load`: a classifier from wherever a net is kept."""

import os

import jax

from nofrost_jax.classifier import Classifier, Origin
from nofrost_jax.convert import sources
from nofrost_jax.errors import UserError


def load(
    source: str | os.PathLike,
    gamma: float | None = None,
    interpolation: str | None = None,
    p: float | None = None,
    seed: int | None = None,
) -> Classifier:
    """The `Classifier` of a net: uint8 or [0, 1] float images [N, H, W, 3] -> logits, float32 [N, K]. What else is
    known is in its `class_names`, `config` and `provenance`.

    source: a run's --workdir (its newest checkpoint, or the one that the run selected), RUN/checkpoints/STEP, an
    export, each also gs://BUCKET/PATH; a .pth, .pt or .safetensors file, or hf://OWNER/NAME[@REVISION]. gamma:
    weight of the adversarial branch of a mixture-BN net; interpolation, p, seed: where the branches are mixed
    (`Classifier`). None: the config's evaluation.mbn_*. Raises UserError if there is no net, or it does not fit its
    config; MachineError if a bucket may not be read, or not be reached.
    """
    net = sources.read(source)
    config = net.config
    mixture = {"gamma": gamma, "interpolation": interpolation, "p": p, "seed": seed}
    given = [name for name, value in mixture.items() if value is not None]
    if given and not net.model.has_branches:
        raise UserError(f"{given[0]} is for mixture-BN nets, and {source} holds none; leave it out")
    mixture = {name: config["evaluation"][f"mbn_{name}"] if value is None else value for name, value in mixture.items()}
    data, origin = config["data"], Origin(net.class_names, config, net.provenance)
    variables = jax.device_put(net.variables)
    return Classifier(variables, net.model, tuple(data["mean"]), tuple(data["std"]), **mixture, origin=origin)
