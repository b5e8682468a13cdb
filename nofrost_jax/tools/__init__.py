"""The command lines beside main.py: `python -m nofrost_jax.tools.NAME --help`."""
