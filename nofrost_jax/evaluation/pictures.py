"""Saved adversarial images, and a grid of them for the eye: clean, adversarial, amplified difference. Pillow only."""

import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHOWN = 8  # images in a grid
SIDE = 112  # pixels of a cell; images keep their shape
GAP, HEAD, FOOT = 8, 44, 22
INK, PAPER, GOOD, BAD = (30, 30, 30), (255, 255, 255), (20, 110, 50), (180, 30, 30)


def save(workdir, name, plans, outcomes):
    """Writes `evaluations/NAME_images/LABEL.npz` and `LABEL.png` for each plan with saved images; returns the paths.

    The npz has index, label, clean (uint8 [k, H, W, 3]), adversarial (float32 in [0, 1], exactly what the verdict saw)
    and robust. In a cascade it is the image of the attack that fooled the net, or of the last one. Images that the
    attack did not meet, e.g. misclassified ones, are left out.
    """
    folder, written = os.path.join(workdir, "evaluations", f"{name}_images"), []
    for plan in plans:
        outcome = outcomes["plans"][plan.label]
        chosen, adversarial = adversarial_images(outcome, len(outcomes["pixels"]))
        if not len(chosen):
            continue
        os.makedirs(folder, exist_ok=True)
        base, clean = os.path.join(folder, plan.label), outcomes["pixels"][chosen]
        index, label = outcomes["index"][chosen], outcomes["label"][chosen]
        robust = outcome["robust"][chosen]
        np.savez(f"{base}.npz", index=index, label=label, clean=clean, adversarial=adversarial, robust=robust)
        title, shown = f"{plan.label}, eps {plan.epsilon_255:g}/255", plan.epsilon_255
        if plan.norm == "l2":  # whose radius says little of a pixel
            title, shown = f"{title} in l2", float(np.abs(adversarial * 255 - clean).max())
        grid(title, clean, adversarial, shown, label, robust).save(f"{base}.png")
        written += [f"{base}.npz", f"{base}.png"]
    return written


def adversarial_images(outcome, count):
    """(positions, images) of the first `count` images: of the first member that fooled, or else of the last one."""
    images = np.zeros_like(outcome["members"][0]["pixels"])
    met, fooled = np.zeros(count, bool), np.zeros(count, bool)
    for rows in outcome["members"]:
        attacked = rows["attacked"][:count] & ~fooled
        images[attacked], met = rows["pixels"][attacked], met | attacked
        fooled |= attacked & ~rows["robust"][:count]
    return np.flatnonzero(met), images[met]


def grid(title, clean, adversarial, epsilon_255, labels, robust):
    """A picture with three rows: clean, adversarial, and their difference, grey where there is none and saturated at
    the radius. Columns: the first images, each with its label, green where the net stood the attack."""
    clean, adversarial = clean[:SHOWN] / 255.0, adversarial[:SHOWN].astype(float)
    amplified = np.clip(0.5 + (adversarial - clean) * 255 / (2 * max(epsilon_255, 1e-6)), 0, 1)
    names = ("clean", "adversarial", f"difference x {255 / (2 * max(epsilon_255, 1e-6)):.3g}")
    font, small = ImageFont.load_default(16), ImageFont.load_default(13)
    left = int(max(small.getlength(name) for name in names)) + 2 * GAP
    height, width = _cell(clean.shape[1:3])
    picture = Image.new("RGB", (left + len(clean) * (width + GAP), HEAD + 3 * (height + GAP) + FOOT), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((GAP, GAP), title, INK, font=font)
    for row, (name, images) in enumerate(zip(names, (clean, adversarial, amplified), strict=True)):
        top = HEAD + row * (height + GAP)
        draw.text((GAP, top + height // 2), name, INK, font=small, anchor="lm")
        for column, image in enumerate(images):
            pixels = Image.fromarray(np.round(image * 255).astype(np.uint8))
            resampling = Image.Resampling.NEAREST if width >= pixels.width else Image.Resampling.LANCZOS
            picture.paste(pixels.resize((width, height), resampling), (left + column * (width + GAP), top))
    for column, (label, stood) in enumerate(zip(labels, robust, strict=False)):
        if column < len(clean):
            text, ink = (f"{label}: robust", GOOD) if stood else (f"{label}: fooled", BAD)
            middle = left + column * (width + GAP) + width // 2
            draw.text((middle, HEAD + 3 * (height + GAP)), text, ink, font=small, anchor="mt")
    return picture


def _cell(shape):
    """(height, width) of a cell that holds an image of `shape`, its longer side SIDE."""
    scale = SIDE / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
