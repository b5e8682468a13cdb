"""Training methods. Each is a module with two functions:

    make_step(model, optimizer, config) -> step(state, batch, key) -> (state, metrics)
    passes(config) -> (forwards, backwards to the image, backwards to the parameters) per training image

`step` is a pure function of one device's shard; `parallel.Devices.map_step` maps it. Its metrics are float32 pairs
(sum, count). A new method is one file here and one row in TABLE.
"""

from nofrost_jax.methods import at, standard

TABLE = {"standard": standard, "at": at}
NAMES = tuple(TABLE)
