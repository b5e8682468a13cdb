"""Files of arrays that nobody may trust: .pth and .safetensors. Reading one runs nothing that is in it."""

import os
from collections.abc import Mapping

import numpy as np

from nofrost_jax.errors import refused
from nofrost_jax.weights import tensors, torch_file


def read(path: str | os.PathLike) -> Mapping[str, np.ndarray]:
    """The arrays of a file of weights by name, views of the file: PyTorch's, in either of its formats, or safetensors.

    The content decides, not the name. Raises UserError if the file is missing, damaged, or something else.
    """
    path = os.path.expanduser(os.fspath(path))
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise refused(f"cannot read the weights {path}", error, "check the path, and give the file itself") from error
    return tensors.read(path)[0] if head[8:] == b"{" or path.endswith(".safetensors") else torch_file.read(path)
