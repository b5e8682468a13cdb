"""The columns of the paper's Tables 1 and 2, and standard AutoAttack.

    python main.py --mode=evaluate --config=configs/eval/paper.py --workdir=RUN
    python main.py --mode=evaluate --config=configs/eval/paper.py:all --workdir=RUN     aa_standard on all images
    python main.py --mode=dry_run --config=configs/eval/paper.py --workdir=RUN          what it costs, in hours

PGD, CW and MIA take 20 steps with the step rule of the authors' code; all steps together are only 1.25 epsilon long.
RayS and Square have 400 queries, RayS on 1,000 images. The paper's "AA" is `aa_fast_20`. `pgdt_20` is the targeted PGD
of Figure 2, which counts all images, also those that are wrong when clean (`pgdt_20_all`). `aa_standard` runs on 5,000
evenly spread images, as many as on RobustBench.

The paper's NoFrost ResNet-50 has PGD 22.45, APGD-CE 11.96, "AA" 9.36 %. A user measured 12.03 % under APGD-CE-20 on the
authors' checkpoint, 5.29 % with 100 steps and 1.28 % under `aa_standard`. Only `aa_standard` measures robustness.
"""

from configs.common import attack, pgd_20
from configs.eval import suite

RULE = {"steps": 20, "step_rule": "nofrost"}


def get_config(arg=""):
    """arg: "" or all."""
    if arg not in ("", "all"):
        raise ValueError(f"unknown argument {arg!r} after the config file; this one takes: all")
    attacks = suite.curve(limit=1000) | {
        "pgd_20": pgd_20(),
        "apgd_ce_20": attack("apgd_ce", "paper", steps=20),
        "apgd_dlr_20": attack("apgd_dlr", "paper", steps=20),
        "mia_20": attack("mi_fgsm", "paper", **RULE),
        "cw_20": attack("cw", "paper", **RULE),
        "rays_400": attack("rays", "paper", queries=400, limit=1000),
        "square_400": attack("square", "paper", queries=400),
    }
    protocols = suite.both_protocols(limit=0 if arg else 5000)
    return suite.make("paper", attacks | suite.both_counts("pgdt_20", "figure 2") | protocols)
