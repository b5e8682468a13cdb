"""What more steps find: PGD and APGD-CE with 10, 20, 50 and 100 steps, then both AutoAttack protocols.

    python main.py --mode=evaluate --config=configs/eval/convergence.py --workdir=RUN --config.evaluation.limit=1000

PGD uses the authors' step rule, under which more steps do not go further, and `madry`.
"""

from configs.common import attack
from configs.eval import suite

STEPS = (10, 20, 50, 100)


def get_config():
    attacks = {f"apgd_ce_{steps}": attack("apgd_ce", "convergence", steps=steps) for steps in STEPS}
    for rule in ("nofrost", "madry"):
        attacks |= {f"pgd_{steps}_{rule}": attack("pgd", "convergence", steps=steps, step_rule=rule) for steps in STEPS}
    return suite.make("convergence", attacks | suite.both_protocols())
