"""Params-only exports: a run's newest checkpoint as two files that `nofrost_jax.load` reads without orbax.

    python -m nofrost_jax.convert.export runs/digits exports/digits

Exit codes: 0 done; 1 the machine failed; 2 there is no run, or the folder for the export has other content.
"""

import os

from ml_collections import ConfigDict

from nofrost_jax import checkpoint, errors, lock, models
from nofrost_jax.classifier import create_model


def export(run: str, out: str) -> int:
    """Writes `OUT/params.npz` (arrays by path, float32) and `OUT/config.json` (the run's, unchanged); returns the step.

    run: a training run's --workdir. out: a new folder, or an older export of the same config, which is replaced. Raises
    UserError if there is no run, or `out` cannot be written or has other content.
    """
    run, out = os.path.expanduser(run), os.path.expanduser(out)
    config = checkpoint.read_config(run)
    if os.path.isdir(os.path.join(out, "checkpoints")):
        raise errors.UserError(f"{out} is a training run; choose another folder for the export")
    _require_own(out, config)
    model, size = create_model(ConfigDict(config).model), config["data"]["image_size"]
    abstract = models.abstract_variables(model, size)
    step, variables, _ = checkpoint.load_variables(run, abstract)
    with open(os.path.join(run, "config.json")) as file:
        text = file.read()
    with lock.hold(lock.place(out), "an export"):
        _require_own(out, config)  # again: another export may have finished meanwhile
        try:
            checkpoint.export(out, variables, text)
        except OSError as error:
            raise errors.refused(f"{out} cannot be written", error, "choose another folder") from error
    return step


def _require_own(out: str, config: dict) -> None:
    if os.path.exists(os.path.join(out, "config.json")) and checkpoint.read_config(out) != config:
        raise errors.UserError(f"{out} has an export of another config; choose another folder, or remove it")


def main(arguments: list[str] | None = None) -> None:
    parser = errors.Parser("convert.export", __doc__)
    parser.add_argument("run", help="folder of a training run")
    parser.add_argument("out", help="folder for params.npz and config.json")
    with errors.exit_codes():
        options = parser.parse_args(arguments)
        step = export(options.run, options.out)
    megabytes = os.path.getsize(os.path.expanduser(f"{options.out}/params.npz")) / 1e6
    what = options.run if step < 0 else f"step {step} of {options.run}"  # itself an export
    print(f"{what}: written {options.out}/params.npz ({megabytes:.2f} MB) and config.json")


if __name__ == "__main__":
    main()
