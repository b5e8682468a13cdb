"""Corruptions on one device and on several: the same bytes."""

import jax
import numpy as np
import pytest

from nofrost_jax import corruptions, parallel
from tests.data.helpers import picture

SIDE = 20


@pytest.mark.parametrize("name", ["impulse_noise", "motion_blur", "frost", "fog", "zoom_blur", "jpeg_compression"])
def test_the_number_of_devices_does_not_count(name):
    """Twenty images on one device, on two, of which the second gets four, and on three, of which one gets none."""
    images = np.stack([picture(i, SIDE, SIDE) for i in range(20)])
    want = corruptions.corrupt(images, name, 4, np.arange(20), 7)
    for count in (1, 2, 3):
        devices = parallel.Devices(tuple(jax.devices()[:count]))
        got = corruptions.corrupt(images, name, 4, np.arange(20), 7, devices=devices)
        np.testing.assert_array_equal(got, want)
    if name != "jpeg_compression":  # Pillow's
        shared = corruptions._arrays(name, 4, SIDE, devices)
        assert all(len(array.devices()) == 3 for array in jax.tree.leaves(shared))
