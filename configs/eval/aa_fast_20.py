"""The paper's "AA": APGD-CE and APGD-DLR with 20 steps each. Weak: see configs/eval/aa_standard.py.

    python main.py --mode=evaluate --config=configs/eval/aa_fast_20.py --workdir=RUN

The table shows standard AutoAttack, which is far more expensive, as "not run". The curve of APGD-CE with 20, 50 and 100
steps on 1,000 images shows how much 20 steps miss.
"""

from configs.eval import suite


def get_config():
    return suite.make("aa_fast_20", suite.curve(limit=1000) | {"aa_fast_20": suite.both_protocols()["aa_fast_20"]})
