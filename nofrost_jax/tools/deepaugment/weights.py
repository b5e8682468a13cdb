"""Converts a published file of DeepAugment's weights to `.npz`.

python -m nofrost_jax.tools.deepaugment.weights edsr_baseline_x4.pt edsr.npz
"""

import os

from nofrost_jax import errors
from nofrost_jax.augment.deepaugment import weights
from nofrost_jax.errors import UserError


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = errors.Parser("tools.deepaugment.weights", __doc__)
    parser.add_argument("published", help="edsr_baseline_x4.pt or model_final.state")
    parser.add_argument("output", type=os.path.expanduser, help="the .npz file to write")
    with errors.exit_codes():
        options = parser.parse_args(arguments)
        if not options.output.endswith(".npz"):
            raise UserError(f"the output must be called .npz, not {options.output}")
        network, params = weights.read(options.published)
        try:
            weights.save(options.output, params)
        except OSError as error:
            raise errors.refused(f"{options.output} cannot be written", error, "choose another path") from error
        print(f"written: {options.output}, {network}, {weights.count(params):,} parameters")


if __name__ == "__main__":
    main()
