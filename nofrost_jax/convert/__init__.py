"""Weights from other libraries in, exports out: `python -m nofrost_jax.convert`."""
