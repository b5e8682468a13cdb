"""The published corruptions of one image in plain NumPy, SciPy and Pillow, float64, for given random draws.

Written from the description of ImageNet-C, loops and all, so that they share nothing with the code under test. Images
are uint8 [n, n, 3]; results uint8, truncated.
"""

import math

import numpy as np
from PIL import Image
from scipy import ndimage


def finish(x):
    """Clip [0, 1], times 255, truncate."""
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def correlate(image, kernel, mode):
    """2-D correlation, channel by channel; mode as scipy.ndimage has it."""
    return np.stack([ndimage.correlate(image[..., c], kernel, mode=mode) for c in range(image.shape[-1])], -1)


def gaussian(image, sigma):
    return np.stack([ndimage.gaussian_filter(image[..., c], sigma, mode="nearest") for c in range(3)], -1)


def defocus_blur(image, radius, alias_sigma):
    half, small = (8, 1) if radius <= 8 else (radius, 2)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    disk = (y * y + x * x <= radius * radius).astype(float)
    y, x = np.mgrid[-small : small + 1, -small : small + 1]
    bell = np.exp(-(y * y + x * x) / (2 * alias_sigma**2))
    kernel = ndimage.correlate(disk / disk.sum(), bell / bell.sum(), mode="mirror")
    # The original's kernel is float32. Where it should sum to 1 it sums to 1 - 1e-8 or so.
    return finish(correlate(image / 255, kernel * (1 - 1e-8), "mirror"))


def scatter(image, offsets, reach):
    """The original's loop over one pass; offsets [n, n, 2] hold (dx, dy) of the pixel that is visited."""
    out, side = image.copy(), len(image)
    for h in range(side - reach, reach, -1):
        for w in range(side - reach, reach, -1):
            dx, dy = offsets[h, w]
            out[h, w] = out[h + dy, w + dx]
    return out


def glass_blur(image, offsets, sigma, reach, iterations):
    image = finish(gaussian(image / 255, sigma))
    for i in range(iterations):
        image = scatter(image, offsets[i], reach)
    return finish(gaussian(image / 255, sigma))


def trail(image, angle, radius, sigma):
    """ImageMagick's motion blur of 0..255, [n, n, C] -> [n, n, C]: 16 bits rounded, then their upper 8."""
    side, total = len(image), np.zeros(image.shape)
    weights = [math.exp(-i * i / (2 * sigma**2)) for i in range(2 * radius + 1)]
    rows, columns = np.mgrid[:side, :side]
    for i, weight in enumerate(weights):
        dy = math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        dx = math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        total += weight * image[np.clip(rows + dy, 0, side - 1), np.clip(columns + dx, 0, side - 1)]
    return np.floor(total / sum(weights) * 257 + 0.5) // 257


def motion_blur(image, angle, radius, sigma):
    return trail(image.astype(float), angle, radius, sigma).astype(np.uint8)


def clipped_zoom(image, factor):
    """[n, n, C] -> [n, n, C]."""
    side = len(image)
    crop = math.ceil(side / factor)
    top = (side - crop) // 2
    zoomed = ndimage.zoom(image[top : top + crop, top : top + crop], (factor, factor, 1), order=1)
    trim = (len(zoomed) - side) // 2
    return zoomed[trim : trim + side, trim : trim + side]


def zoom_blur(image, factors):
    x = image / 255
    return finish((x + sum(clipped_zoom(x, factor) for factor in factors)) / (len(factors) + 1))


def snow(image, field, angle, mean, deviation, zoom, threshold, radius, sigma, image_weight):
    """field: standard normal [n, n]."""
    flakes = clipped_zoom((mean + deviation * field)[..., None], zoom)
    flakes[flakes < threshold] = 0
    layer = trail(finish(flakes).astype(float), angle, radius, sigma) / 255
    x = image / 255
    grey = (x @ [0.299, 0.587, 0.114])[..., None]
    x = image_weight * x + (1 - image_weight) * np.maximum(x, grey * 1.5 + 0.5)
    return finish(x + layer + np.rot90(layer, 2))


def frost(image, ice, image_weight, frost_weight):
    return np.clip(image_weight * image + frost_weight * ice, 0, 255).astype(np.uint8)


def plasma(draws, decay, size=256):
    """Diamond-square by single places; draws in [-1, 1): for every level all centres, then all tops, then all lefts."""
    field, step, amplitude, draws = np.zeros((size, size)), size, 100.0, iter(draws)
    while step >= 2:
        half, places = step // 2, [(y, x) for y in range(0, size, step) for x in range(0, size, step)]

        def at(y, x):
            return field[y % size, x % size]

        for y, x in places:
            corners = at(y, x) + at(y, x + step) + at(y + step, x) + at(y + step, x + step)
            field[y + half, x + half] = corners / 4 + amplitude**2 * next(draws)
        for y, x in places:
            around = at(y, x) + at(y, x + step) + at(y + half, x + half) + at(y - half, x + half)
            field[y, x + half] = around / 4 + amplitude**2 * next(draws)
        for y, x in places:
            around = at(y, x) + at(y + step, x) + at(y + half, x + half) + at(y + half, x - half)
            field[y + half, x] = around / 4 + amplitude**2 * next(draws)
        step, amplitude = half, amplitude / decay
    field -= field.min()
    return field / field.max()


def fog(image, layer, strength):
    x = image / 255
    return finish((x + strength * layer[..., None]) * x.max() / (x.max() + strength))


def brightness(image, shift):
    """Through HSV and back, pixel by pixel, by Python's own colorsys."""
    import colorsys

    def one(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb(hue, saturation, min(max(value + shift, 0.0), 1.0))

    return finish(np.apply_along_axis(one, -1, image / 255))


def contrast(image, factor):
    x = image / 255
    mean = x.mean((0, 1))
    return finish((x - mean) * factor + mean)


def affine(image, moved):
    """OpenCV's affine warp by three points that move, in its fixed point: 1/1024 pixels added, 1/32 kept."""
    side = len(image)
    low, high = side // 2 - side // 3, side // 2 + side // 3
    fixed = np.array([[high, high], [high, low], [low, low]], float)
    back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), fixed).T  # rows: x and y of the source
    y, x = np.mgrid[:side, :side].astype(float)
    source = [
        (np.rint(row[0] * x * 1024).astype(int) + np.rint((row[1] * y + row[2]) * 1024).astype(int) + 16 >> 5) / 32
        for row in back
    ]
    return np.stack(
        [ndimage.map_coordinates(image[..., c], source[::-1], order=1, mode="mirror") for c in range(3)], -1
    )


def elastic_transform(image, corners, fields, amplitude, sigma, jitter):
    """corners [3, 2] and fields [2, n, n] uniform in [-1, 1)."""
    side = len(image)
    low, high = side // 2 - side // 3, side // 2 + side // 3
    x = affine(image / 255, np.array([[high, high], [high, low], [low, low]]) + jitter * corners)
    dx, dy = (amplitude * ndimage.gaussian_filter(field, sigma, mode="reflect", truncate=3) for field in fields)
    rows, columns = np.mgrid[:side, :side]
    places = [rows + dy, columns + dx]
    return finish(np.stack([ndimage.map_coordinates(x[..., c], places, order=1, mode="reflect") for c in range(3)], -1))


def pixelate(image, factor):
    side = len(image)
    small = Image.fromarray(image).resize((int(side * factor),) * 2, Image.Resampling.BOX)
    return np.asarray(small.resize((side, side), Image.Resampling.BOX))
