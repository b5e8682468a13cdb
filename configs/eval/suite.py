"""What the evaluation suites share. A suite says how to evaluate a run, never what the run is:

    python main.py --mode=evaluate --config=configs/eval/paper.py --workdir=RUN
    python main.py --mode=evaluate --config=configs/eval/paper.py --workdir=RUN \
        --config.evaluation.only=pgd_20,aa_standard

A field that is None keeps the value of the run. `evaluation.only` picks some attacks of the suite; "" runs all. Radii
are those of the run (`config.attack.epsilon_255`; 8 in the paper) unless an attack has its own. An evaluation that is
stopped or killed continues where it was, and suites reuse each other's outcomes.
"""

from ml_collections import ConfigDict, config_dict

from configs.common import attack, properties


def make(name, attacks):
    """The config of a suite. name: of the result, evaluations/NAME.json. attacks: {name: `common.attack(...)`}."""
    config = ConfigDict({"evaluation": {"name": name, "attacks": attacks, "only": ""}, "data": {}})
    config.evaluation.properties = properties(measure=False)
    for field in ("batch_size", "chunk_size", "limit", "classes", "save_images"):
        config.evaluation[field] = config_dict.placeholder(int)
    config.evaluation.mbn_seed = config_dict.placeholder(int)
    config.evaluation.mbn_gammas = config_dict.placeholder(tuple)
    for field in ("mbn_gamma", "mbn_p"):
        config.evaluation[field] = config_dict.placeholder(float)
    for field in ("mbn_interpolation", "attack_dtype", "ids"):
        config.evaluation[field] = config_dict.placeholder(str)
    for field in ("source", "data_dir", "eval_split", "other_files"):
        config.data[field] = config_dict.placeholder(str)
    config.data.workers = config_dict.placeholder(int)
    return config


def both_protocols(limit=0):
    """The paper's "AA" and the field's AutoAttack, which costs 100 times as much.

    limit: run the second on so many evenly spread images; 0 = all. The flag for it is
    --config.evaluation.attacks.aa_standard.limit.
    """
    standard = attack("aa_standard", "aa_standard", limit=limit)
    return {"aa_fast_20": attack("aa_fast_20", "aa_fast_20"), "aa_standard": standard}


def both_counts(name, protocol, epsilon_255=None):
    """Targeted PGD-20 with the authors' step rule, counted on images right when clean, and on all as they count."""
    rule = {"steps": 20, "step_rule": "nofrost"}
    return {
        name: attack("pgd_targeted", protocol, epsilon_255, **rule),
        f"{name}_all": attack("pgd_targeted", protocol, epsilon_255, count="all", **rule),
    }


def curve(limit=0):
    """APGD-CE with 20, 50 and 100 steps: are 20 enough?"""
    return {f"apgd_ce_{steps}": attack("apgd_ce", "convergence", steps=steps, limit=limit) for steps in (20, 50, 100)}
