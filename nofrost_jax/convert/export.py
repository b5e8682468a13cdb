"""Params-only exports: a run's newest checkpoint as two small files that `nofrost_jax.load` reads without orbax.

    python -m nofrost_jax.convert.export runs/digits exports/digits
"""

import argparse
import os
import sys

import jax
from ml_collections import ConfigDict

from nofrost_jax import checkpoint, models
from nofrost_jax.classifier import create_model
from nofrost_jax.errors import UserError


def export(run, out):
    """Writes `OUT/params.npz` (float32 arrays by path) and `OUT/config.json` (the run's own); returns the step exported.

    run: a training run's --workdir. out: a new folder, or one that holds an export of the same config, which is
    replaced. Raises UserError where there is no run, or where `out` holds something else.
    """
    config = checkpoint.read_config(run)
    if os.path.isdir(os.path.join(out, "checkpoints")):
        raise UserError(f"{out} is a training run itself; choose another folder for the export")
    if os.path.exists(os.path.join(out, "config.json")) and checkpoint.read_config(out) != config:
        raise UserError(f"{out} holds an export of another config; choose another folder, or remove that one")
    model = create_model(ConfigDict(config).model)
    abstract = jax.eval_shape(lambda key: models.init(model, key, config["data"]["image_size"]), jax.random.key(0))
    step, variables, _ = checkpoint.load_variables(run, abstract)
    with open(os.path.join(run, "config.json")) as file:
        text = file.read()
    try:
        checkpoint.export(out, variables, text)
    except OSError as error:
        raise UserError(f"cannot write to {out} ({error.strerror}); choose another folder") from error
    return step


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m nofrost_jax.convert.export", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a training run")
    parser.add_argument("out", help="folder for params.npz and config.json")
    options = parser.parse_args(arguments)
    try:
        step = export(options.run, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = os.path.getsize(os.path.join(options.out, "params.npz"))
    print(f"step {step} of {options.run} is in {options.out}: params.npz ({size / 1e6:.2f} MB) and config.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
