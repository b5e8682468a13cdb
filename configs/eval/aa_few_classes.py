"""Standard AutoAttack as far as it goes on 2 or 3 classes: APGD-CE 100, FAB-T 9 x 100, Square 5,000, on survivors.

    python main.py --mode=evaluate --config=configs/eval/aa_few_classes.py --workdir=RUN

APGD on the targeted DLR loss, the second attack of `aa_standard`, needs 4 classes and is left out; FAB-T has as many
targets as there are other classes. The curve of APGD-CE over its steps runs beside it, on 1,000 images.
"""

from configs.common import attack
from configs.eval import suite


def get_config():
    few = {"aa_few_classes": attack("aa_few_classes", "aa_few_classes")}
    return suite.make("aa_few_classes", suite.curve(limit=1000) | few)
