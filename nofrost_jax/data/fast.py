"""`config.data.decode = "fast"`: training images through simplejpeg and cykooz-resizer instead of Pillow.

Both decoders are libjpeg-turbo and give the same pixels; Pillow decodes what simplejpeg refuses. The resize is the same
antialiased bilinear filter, with SIMD and shorter fixed-point coefficients: some pixels differ from Pillow's by 1 of
255, few by 2, without bias. `benchmarks/input.py` measures gain and loss.
"""

import importlib.util

import numpy as np

from nofrost_jax.errors import UserError

DECODE = ("exact", "fast")
PACKAGES = {"simplejpeg": "simplejpeg", "cykooz_resizer": "cykooz-resizer"}

COLOURS = ("YCbCr", "Gray")  # of a JPEG file; Pillow converts all others by rules of its own


def require() -> None:
    """Raises UserError unless the packages are installed."""
    absent = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if absent:
        raise UserError(
            f"fast decoding needs {' and '.join(absent)}; config.data.decode = fast; pip install "
            f"{' '.join(absent)}, or set it to exact"
        )


def decode(image: bytes) -> np.ndarray | None:
    """uint8 [h, w, 3] of a JPEG file, or None for any other, unusual or damaged file."""
    import simplejpeg

    if not image.startswith(b"\xff\xd8"):
        return None
    try:
        if simplejpeg.decode_jpeg_header(image)[2] not in COLOURS:
            return None
        return simplejpeg.decode_jpeg(image, "RGB")
    except ValueError:
        return None


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [h, w, 3] -> [size, size, 3], bilinear with antialias."""
    import cykooz_resizer as resizer

    height, width, _ = image.shape
    source = resizer.ImageData(width, height, resizer.PixelType.U8x3, image.tobytes())
    target = resizer.ImageData(size, size, resizer.PixelType.U8x3)
    bilinear = resizer.ResizeAlg.convolution(resizer.FilterType.bilinear)
    resizer.Resizer().resize(source, target, resizer.ResizeOptions(resize_alg=bilinear))
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(size, size, 3)
