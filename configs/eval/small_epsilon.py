"""The paper's Table 7: PGD-10 and PGD-50 at radii of 2 and 4 pixel values.

    python main.py --mode=evaluate --config=configs/eval/small_epsilon.py --workdir=RUN

The paper follows FreeAT, with steps of one pixel value (`fixed:1.0`). The authors' code has shorter steps (`nofrost`,
1.25 epsilon / steps). Both rules run; each line of the table names its rule.
"""

from configs.common import attack
from configs.eval import suite


def get_config():
    attacks = {}
    for steps in (10, 50):
        for radius in (2, 4):
            name = f"pgd_{steps}_eps_{radius}"
            attacks[name] = attack("pgd", "table 7", float(radius), steps=steps, step_rule="fixed:1.0")
            attacks[f"{name}_nofrost"] = attack("pgd", "table 7", float(radius), steps=steps, step_rule="nofrost")
    return suite.make("small_epsilon", attacks)
