"""Studies with a stand-in for main.py, for where only the order of things counts."""

import json
import shutil

import pytest

from nofrost_jax.tools.reproduce import __main__ as reproduce
from nofrost_jax.tools.reproduce.options import parse
from tests.conftest import ROOT

SELECT = [f"select/{row}/rate_{rate}" for row in ("st", "sat") for rate in ("0.1", "0.3")]
FINALS = [f"runs/{row}/rate_0.1/seed_{seed}" for row in ("st", "sat") for seed in (0, 1)]


class Fake:
    """A folder with the stand-in, and studies of it."""

    def __init__(self, folder):
        self.root, self.workdir = folder / "root", folder / "study"
        self.root.mkdir()
        shutil.copy(ROOT / "tests/tools/reproduce/stand_in.py", self.root / "main.py")
        self.orders()

    def orders(self, **told):
        (self.root / "orders.json").write_text(json.dumps(told))

    def parse(self, *more, rows="st,sat", seeds="0,1", rates="0.1,0.3"):
        lists = [f"--rows={rows}", f"--seeds={seeds}", f"--rates={rates}"]
        return parse(["digits", f"--workdir={self.workdir}", *lists, *more])[0]

    def run(self, *more, **lists):
        return reproduce.reproduce(self.parse(*more, **lists), self.root)

    def make(self, *names, more=("--source=digits",)):
        """Tables and figures."""
        return reproduce.reproduce(self.parse_paper(*names, *more), self.root)

    def parse_paper(self, *given):
        return parse([*given, f"--workdir={self.workdir}"])[0]

    @property
    def calls(self):
        path = self.root / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def runs(self):
        return [call["run"] for call in self.calls]

    @property
    def study(self):
        return json.loads((self.workdir / "study.json").read_text())


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)
