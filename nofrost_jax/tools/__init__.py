"""The other command lines: `python -m nofrost_jax.tools.NAME --help`."""
