"""An undisturbed run in this process, on eight devices, and copies of its folder."""

import dataclasses
import pathlib
import shutil

import pytest

from nofrost_jax import attacks, methods, parallel
from tests.conftest import sharing_compiled
from tests.resume.helpers import train_here


class Traces:
    """Counts how often a training step and a PGD attack are traced."""

    def __init__(self, monkeypatch):
        self.steps = self.attacks = 0
        method, attack = methods.TABLE["at"], attacks.PGD.ascend

        def counting_own_step(*args):
            step = method.make_step(*args)

            def counted(*inputs):
                self.steps += 1
                return step(*inputs)

            return counted

        def counting_attack(*args):
            self.attacks += 1
            return attack(*args)

        monkeypatch.setitem(methods.TABLE, "at", dataclasses.replace(method, make_own_step=counting_own_step))
        monkeypatch.setattr(attacks.PGD, "ascend", counting_attack)


def map_after_compiling(devices, step, *arguments):
    """What several processes do. A compiled program takes any arguments; pmap traces again if they are placed anew."""
    mapped = devices.map_step(step)
    mapped.lower(*arguments).compile()
    return mapped


@pytest.fixture(scope="session")
def whole(tmp_path_factory, compilation_cache):
    """(folder, Traces) of an undisturbed run in this process, which compiles for the others."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch, sharing_compiled(compilation_cache):
        monkeypatch.setattr(parallel.Devices, "compile_step", map_after_compiling)
        traces = Traces(monkeypatch)
        train_here(folder)
    return folder, traces


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the undisturbed run's folder, to be damaged."""
    return pathlib.Path(shutil.copytree(whole[0], tmp_path / "run"))
