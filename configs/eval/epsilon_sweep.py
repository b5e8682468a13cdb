"""The paper's Figure 7: targeted PGD with 20 steps at radii of 8 to 16 pixel values, by the authors' step rule.

    python main.py --mode=evaluate --config=configs/eval/epsilon_sweep.py --workdir=RUN

Each radius is counted twice. `pgdt_20_eps_8` counts images that are right when clean and not fooled.
`pgdt_20_eps_8_all` counts as the figure and the authors do: all images are attacked, and a targeted attack turns some
wrong images right, more of them if the clean accuracy is low. One run of the attack serves both.

The paper does not state its grid. Here it is every second value, and also 32 and 64: accuracy that does not fall to
about zero there is a sign of masked gradients (flag `large_epsilon`).
"""

from configs.eval import suite

RADII = (8, 10, 12, 14, 16, 32, 64)


def get_config():
    attacks = {}
    for radius in RADII:
        attacks |= suite.both_counts(f"pgdt_20_eps_{radius}", "figure 7", float(radius))
    return suite.make("epsilon_sweep", attacks)
