"""The paper's Figures 2 and 5: a mixture-BN net at different weights gamma of its adversarial branch.

    python main.py --mode=evaluate --config=configs/eval/mbn_gamma.py --workdir=RUN              mixed at the logits
    python main.py --mode=evaluate --config=configs/eval/mbn_gamma.py:all --workdir=RUN          at every MBN layer too
    python main.py --mode=evaluate --config=configs/eval/mbn_gamma.py:random_25 --workdir=RUN    at 25 % of the layers

For runs of the mbnat configs. The paper draws gamma uniformly from [0, 1]. It states neither the values nor the p of
Figure 5's "random p%". Here gamma is 0, 0.1, .., 1, and `random` means `random_50`.

Attacks: those of Figure 2's four panels (PGD and targeted PGD with the authors' step rule; its "AA" is `aa_fast_20`),
and standard AutoAttack on 1,000 evenly spread images (`--config.evaluation.attacks.aa_standard.limit=0`: on all).
`pgdt_20_all` counts all images, as the authors do, `pgdt_20` those that are right when clean.

For ResNet-26 the paper's text gives clean 69.71 and APGD-CE 0 % at gamma 0, clean 57.08 and APGD-CE 6.27 % at gamma
0.9. Results are evaluations/mbn_logits_gamma_0.1.json and so on, with one table at the end. At 0 < gamma < 1 a forward
pass costs two.
"""

import re

from configs.common import attack, pgd_20
from configs.eval import suite

GAMMAS = tuple(tenths / 10 for tenths in range(11))


def get_config(arg="logits"):
    """arg: logits, all, random, or random_P with P in percent of the layers."""
    found = re.fullmatch(r"(logits|all|random)|random_(100|\d?\d)", arg or "logits")
    if not found:
        raise ValueError(f"unknown argument {arg!r} after the config file; choose logits, all, random or random_25")
    attacks = {
        "pgd_20": pgd_20(),
        "apgd_ce_20": attack("apgd_ce", "paper", steps=20),
        **suite.both_protocols(limit=1000),
        **suite.both_counts("pgdt_20", "figure 2"),
    }
    percent = int(found[2] or 50)
    interpolation = found[1] or "random"
    config = suite.make(f"mbn_random_{percent}" if interpolation == "random" else f"mbn_{interpolation}", attacks)
    config.evaluation.mbn_interpolation = interpolation
    if interpolation == "random":
        config.evaluation.mbn_p = percent / 100
    config.evaluation.mbn_gammas = GAMMAS
    return config
