"""The paper's "AA": APGD-CE and APGD-DLR with 20 steps each. Weak: see configs/eval/aa_standard.py.

    python main.py --mode=evaluate --config=configs/eval/aa_fast_20.py --workdir=RUN

Standard AutoAttack, forty times dearer, is shown as "not run".
"""

from configs.eval import suite


def get_config():
    return suite.make("aa_fast_20", {"aa_fast_20": suite.both_protocols()["aa_fast_20"]})
