"""A picture of what each distortion does to one image, for the eye. Pillow only."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nofrost_jax.augment.deepaugment import cae, distort_cae, distort_edsr, edsr, weights
from nofrost_jax.errors import refused
from nofrost_jax.keys import named
from nofrost_jax.tools.deepaugment import generate

COLUMNS = 9
CELL = 150  # pixels of a cell's longer side
SIDE = 256  # short side of the nets' results, smaller than in the data, to be quick
DRAWS = 8  # of Noise2Net
GAP, HEAD, LABEL = 8, 30, 20
INK, PAPER = (30, 30, 30), (255, 255, 255)


def save(path: str, jobs: list) -> None:
    """Writes the picture, one part a network. Raises UserError: it cannot be written, or an image is unreadable."""
    parts = [part(job) for job in jobs]
    picture = Image.new("RGB", (max(p.width for p in parts), sum(p.height for p in parts)), PAPER)
    top = 0
    for p in parts:
        picture.paste(p, (0, top))
        top += p.height
    try:
        picture.save(os.path.expanduser(path), "PNG")
    except OSError as error:
        raise refused(f"--preview={path} cannot be written", error, "choose another path") from error


def part(job: "generate.Job") -> Image.Image:
    """The picture of one network: the image, the net without distortion, then every distortion alone."""
    index = int(generate.plan(len(job.files), job.seed)[0][0])
    path = os.path.join(job.root, job.files[index])
    original = generate.load(path, "noise2net", SIDE)
    pixels = generate.load(path, job.network, job.side or SIDE)
    key = named(jax.random.key(job.seed), "deepaugment/preview")
    cells = [("original", original), *CELLS[job.network](job.params, pixels, key)]
    is_random = job.params and weights.RANDOM in job.label
    note = "  -  RANDOM weights, not the published ones: nothing is trained" if is_random else ""
    title = f"{job.network}: {job.files[index]}{note}"
    return grid(title, cells)


def grid(title: str, cells: list) -> Image.Image:
    """Cells (label, uint8 [h, w, 3]) in rows of nine."""
    font, small = ImageFont.load_default(16), ImageFont.load_default(11)
    height, width = cells[0][1].shape[:2]
    scale = CELL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rows = -(-len(cells) // COLUMNS)
    step_x, step_y = CELL + GAP, size[1] + LABEL + GAP
    picture = Image.new("RGB", (GAP + COLUMNS * step_x, HEAD + rows * step_y), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((GAP, GAP), title, INK, font=font)
    for place, (label, pixels) in enumerate(cells):
        left, top = GAP + place % COLUMNS * step_x, HEAD + place // COLUMNS * step_y
        picture.paste(Image.fromarray(np.asarray(pixels)).resize(size, Image.Resampling.BILINEAR), (left, top))
        draw.text((left, top + size[1] + 3), label, INK, font=small)
    return picture


@jax.jit
def _edsr(params, pixels, signal, edits, editing):
    params = _either(editing, distort_edsr.apply_edits(params, edits), params)
    outputs = edsr.forward(params, pixels[None].astype(jnp.float32), jax.tree.map(lambda x: x[None], signal))
    return jnp.round(jnp.clip(outputs[0], 0, 255)).astype(jnp.uint8)


def _either(condition, first, second):
    return jax.tree.map(functools.partial(jnp.where, condition), first, second)


def _edsr_cells(params, pixels, key):
    names = distort_edsr.EDIT_NAMES
    edits = jax.jit(distort_edsr.draw_edits)(key, jnp.arange(len(names), dtype=jnp.int32))
    edits = [jax.tree.map(lambda x, k=k: x[k : k + 1], edits) for k in range(len(names))]
    signal = jax.jit(distort_edsr.draw_signal, static_argnums=(1, 2))(key, *pixels.shape[:2])
    plain = signal._replace(pre=jnp.int32(4), body=jnp.int32(5), survivor=jnp.int32(-1))
    run = functools.partial(_edsr, params, pixels)
    yield "no distortion", run(plain, edits[0], False)
    for k, name in enumerate(names):
        yield f"E{k} {name}", run(plain, edits[k], True)
    for k, name in enumerate(distort_edsr.PRE_NAMES[:3], 1):
        yield f"pre{k} {name}", run(plain._replace(pre=jnp.int32(k)), edits[0], False)
    for k, name in enumerate(distort_edsr.BODY_NAMES[:4], 1):
        survivor = jnp.int32(edsr.BLOCKS if k == 4 else -1)
        yield f"body{k} {name}", run(plain._replace(body=jnp.int32(k), survivor=survivor), edits[0], False)


@jax.jit
def _cae(params, pixels, latent, edit, editing):
    params = _either(editing, distort_cae.apply_edit(params, edit), params)
    outputs = cae.forward(params, pixels[None].astype(jnp.float32) / 255, jax.tree.map(lambda x: x[None], latent))
    return (jnp.clip(outputs[0], 0, 1) * 255).astype(jnp.uint8)


def _cae_cells(params, pixels, key):
    code = [side // 2 // 2 for side in pixels.shape[:2]]
    latent = jax.jit(distort_cae.draw_latent, static_argnums=(1, 2))(key, *code)
    plain = latent._replace(option=jnp.int32(-1))
    draw = jax.jit(distort_cae.draw_edit)
    edits = [draw(jax.random.fold_in(key, k), jnp.int32(k)) for k in range(distort_cae.DRAWN)]
    run = functools.partial(_cae, params, pixels)
    yield "no distortion", run(plain, edits[0], False)
    for k, name in enumerate(distort_cae.EDIT_NAMES[: distort_cae.DRAWN]):
        yield f"W{k} {name}", run(plain, edits[k], True)
    for k, name in enumerate(distort_cae.LATENT_NAMES):
        yield f"A{k} {name}", run(latent._replace(option=jnp.int32(k)), edits[0], False)


def _noise2net_cells(params, pixels, key):
    for k in range(DRAWS):
        yield f"draw {k + 1}", generate.distorted("noise2net", params, pixels, jax.random.fold_in(key, k))


CELLS = {"edsr": _edsr_cells, "cae": _cae_cells, "noise2net": _noise2net_cells}
