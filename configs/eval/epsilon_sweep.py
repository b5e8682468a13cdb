"""The paper's Figure 7: targeted PGD with 20 steps at radii of 8 to 16 pixel values, by the authors' step rule.

    python main.py --mode=evaluate --config=configs/eval/epsilon_sweep.py --workdir=RUN

Each radius is counted twice by one run of the attack: `pgdt_20_eps_8` counts images that are right when clean and not
fooled; `pgdt_20_eps_8_all` is the figure's own, the authors': all images are attacked, and a targeted attack puts some
of those right that were wrong, the more of them the lower the clean accuracy. The paper does not state its grid; here
it is every second value, and 32 and 64 beyond it: accuracy that does not fall to about zero there is a sign of masked
gradients (flag `large_epsilon`).
"""

from configs.eval import suite

RADII = (8, 10, 12, 14, 16, 32, 64)


def get_config():
    attacks = {}
    for radius in RADII:
        attacks |= suite.both_counts(f"pgdt_20_eps_{radius}", "figure 7", float(radius))
    return suite.make("epsilon_sweep", attacks)
