"""The run's own attacks, where flags change how they are run:

    python main.py --mode=evaluate --config=configs/eval/own.py --workdir=RUN --config.evaluation.only=pgd_20
    python main.py --mode=evaluate --config=configs/eval/own.py --workdir=RUN --config.evaluation.limit=1000

The result is evaluations/own.json; --config.evaluation.name gives it another name.
"""

from configs.eval import suite


def get_config():
    config = suite.make("own", attacks={})
    del config.evaluation.attacks, config.evaluation.properties  # what is not here stays the run's
    return config
