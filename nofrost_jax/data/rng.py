"""Random numbers as a function of (seed, purpose, epoch, position), by Philox (Salmon et al., 2011)."""

import numpy as np

PERMUTATION, AUGMENTATION, SHUFFLE_SEEDS, DEEPAUGMENT, TDA, COIN = range(6)


def generator(seed: int, purpose: int, epoch: int, position: int = 0) -> np.random.Generator:
    """A generator of its own for every combination of the arguments; `seed` may be negative."""
    key = np.array([seed % 2**64, purpose], np.uint64)
    # The two low words count the numbers drawn.
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, epoch, position], np.uint64)))
