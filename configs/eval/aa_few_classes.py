"""Standard AutoAttack for 2 or 3 classes: APGD-CE 100, FAB-T 9 x 100, Square 5,000, each on survivors.

    python main.py --mode=evaluate --config=configs/eval/aa_few_classes.py --workdir=RUN

APGD-T, the second attack of `aa_standard`, is left out: its targeted DLR loss needs 4 classes. FAB-T has as many
targets as there are other classes. The curve of APGD-CE over its steps on 1,000 images runs too.
"""

from configs.common import attack
from configs.eval import suite


def get_config():
    few = {"aa_few_classes": attack("aa_few_classes", "aa_few_classes")}
    return suite.make("aa_few_classes", suite.curve(limit=1000) | few)
