"""RayS for one image in NumPy, probe by probe, as its paper and the authors' batch code have it."""

import math

import numpy as np


def rays(predict, image, label, epsilon, limit, *, strict=True, official=False):
    """predict: image [H, W, C] -> class. Returns (the adversarial image or None, queries spent, queries at success)."""
    height, width, channels = image.shape
    x = image.transpose(2, 0, 1).ravel()
    signs, distance, found, first, spent = np.ones_like(x), np.inf, None, 0, 0

    def point(length, signs):
        return np.clip(x + length * (signs / math.sqrt(x.size)), 0, 1).astype(x.dtype)

    def fooled(length, signs):
        nonlocal spent
        spent += 1
        return predict(point(length, signs).reshape(channels, height, width).transpose(1, 2, 0)) != label

    level = block = 0
    while spent < limit:
        size = math.ceil(x.size / 2**level)
        start, end = block * size, min((block + 1) * size, x.size)
        trial = signs.copy()
        trial[start:end] *= -1
        if fooled(distance, trial):
            low, high = x.dtype.type(0), np.minimum(distance, x.dtype.type(math.sqrt(x.size)))
            while official or not strict or spent < limit:
                middle = (low + high) / 2
                low, high = (low, middle) if fooled(middle, trial) else (middle, high)
                if high - low <= 1e-3:
                    break
            if high < distance:
                distance, signs = high, trial
                best = point(distance, signs)
                if np.abs(best - x).max() <= x.dtype.type(epsilon):
                    found, first = best.reshape(channels, height, width).transpose(1, 2, 0), first or spent
                    if not official:
                        break
        block += 1
        if block == 2**level or end == x.size:
            level, block = level + 1, 0
    return found, spent, first
