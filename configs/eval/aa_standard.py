"""Standard AutoAttack as on RobustBench: APGD-CE 100, APGD-T 9 x 100, FAB-T 9 x 100, Square 5,000, each on survivors.

    python main.py --mode=evaluate --config=configs/eval/aa_standard.py --workdir=RUN

An image that survives costs about 1,900 backward and 7,800 forward passes. The paper's `aa_fast_20` runs too, and the
curve of APGD-CE over its steps on 1,000 images.
"""

from configs.eval import suite


def get_config():
    return suite.make("aa_standard", suite.curve(limit=1000) | suite.both_protocols())
