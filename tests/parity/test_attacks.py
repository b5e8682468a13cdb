"""The parity certificate, `python -m tests.parity`, holds."""

import concurrent.futures
import json

import pytest

from tests.conftest import finish, start
from tests.parity.__main__ import PARTS

for package in ("torch", "torchattacks", "pyautoattack"):
    pytest.importorskip(package, reason=f"the parity tests need {package}: requirements-oracles.txt says how")


@pytest.fixture(scope="module")
def certificate():
    """{part: Outcome} of the certificate, from processes of their own: float64 is for a whole process."""

    def run(part):
        # The rest of the suite's programs are short, and skip XLA's optimizations; these run thousands of steps.
        return finish(start("-m", "tests.parity", "--json", part, JAX_DISABLE_MOST_OPTIMIZATIONS="0"), timeout=900)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip(PARTS, pool.map(run, PARTS), strict=True))


@pytest.mark.parametrize("part", PARTS)
def test_every_deviation_is_within_its_bound(certificate, part):
    outcome = certificate[part]
    assert outcome.returncode in (0, 1), outcome.stderr
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    broken = [row for row in rows if not row["deviation"] <= row["tolerance"]]
    assert rows and not broken, "\n".join(map(str, broken))
