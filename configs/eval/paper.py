"""The columns of the paper's Tables 1 and 2, and standard AutoAttack beside them.

    python main.py --mode=evaluate --config=configs/eval/paper.py --workdir=RUN

PGD, CW and MIA take the step rule of the authors' code, whose path is only 1.25 epsilon long, and 20 steps; RayS and
Square have 400 queries, RayS on 1,000 images; the paper's "AA" is `aa_fast_20`. Its NoFrost ResNet-50: PGD 22.45,
APGD-CE 11.96, "AA" 9.36 %; a user measured 12.03 % under APGD-CE-20 on the authors' checkpoint, 5.29 % with 100 steps
and 1.28 % under `aa_standard`. None of the columns but the last is a robustness number.
"""

from configs.common import attack, pgd_20
from configs.eval import suite

RULE = {"steps": 20, "step_rule": "nofrost"}


def get_config():
    attacks = suite.curve(limit=1000) | {
        "pgd_20": pgd_20(),
        "apgd_ce_20": attack("apgd_ce", "paper", steps=20),
        "apgd_dlr_20": attack("apgd_dlr", "paper", steps=20),
        "mia_20": attack("mi_fgsm", "paper", **RULE),
        "cw_20": attack("cw", "paper", **RULE),
        "rays_400": attack("rays", "paper", queries=400, limit=1000),
        "square_400": attack("square", "paper", queries=400),
    }
    return suite.make("paper", attacks | suite.both_protocols())
