"""The paper's Figure 7: targeted PGD with 20 steps at radii of 8 to 16 pixel values, by the authors' step rule.

    python main.py --mode=evaluate --config=configs/eval/epsilon_sweep.py --workdir=RUN

The paper does not state its grid; here it is every second value, and 32 and 64 beyond it: accuracy that does not fall
to about zero there is a sign of masked gradients (flag `large_epsilon`).
"""

from configs.common import attack
from configs.eval import suite

RADII = (8, 10, 12, 14, 16, 32, 64)


def get_config():
    rule = {"steps": 20, "step_rule": "nofrost"}
    return suite.make(
        "epsilon_sweep",
        {f"pgdt_20_eps_{radius}": attack("pgd_targeted", "figure 7", float(radius), **rule) for radius in RADII},
    )
