"""What `config.recipe` puts into the fields that a config leaves open: the paper's values, or the authors' code's.

The sources, line by line, stand in the table of configs/common.py.
"""

from nofrost_jax.augment.deepaugment import SOURCES
from nofrost_jax.fields import require_choice
from nofrost_jax.methods.rules import is_adversarial

RECIPES = {
    "paper": {
        "method.terms": "paper",  # before checkpoint.select, which depends on it
        "label_smoothing": 0.0,
        "model.dropout": 0.0,
        "model.drop_path": 0.0,
        "optimizer.nesterov": False,
        "model.bn_running": "mean",
        "method.pgdat_clean_forward": False,
        "checkpoint.select": "last",
        # From here on NoFrost* and Combine alone leave them open.
        "epochs": 90,
        "batch_size": 256,
        "model.bn_group_size": "32",
        "optimizer.learning_rate": 0.1,
        "optimizer.learning_rate_batch": 256,
        "evaluation.every_epochs": 10,
        "deepaugment.mode": "noise2net",
    },
    "authors": {
        "method.terms": "authors",  # before checkpoint.select, which depends on it
        "label_smoothing": 0.1,
        "model.dropout": 0.25,
        "model.drop_path": 0.1,
        "optimizer.nesterov": True,
        "model.bn_running": "first",
        "method.pgdat_clean_forward": True,
        "checkpoint.select": "best_ra_val",  # where nothing is attacked: best_sa_val
        "epochs": 30,
        "batch_size": 80,
        "model.bn_group_size": "10",
        "optimizer.learning_rate": 0.1 * 255 / 256,
        "optimizer.learning_rate_batch": 0,
        "evaluation.every_epochs": 7,
        "deepaugment.mode": "files",
    },
}
FIELDS = ("recipe", *RECIPES["paper"], "deepaugment.sources")


def fill(config):
    """Fills an unlocked config in place; what is set stays. Raises UserError for an unknown recipe."""
    require_choice("recipe", config.recipe, RECIPES)
    authors = config.recipe == "authors"
    for field, value in RECIPES[config.recipe].items():
        section, name = field.rpartition(".")[::2]
        target = config[section] if section else config
        if target[name] is not None:
            continue
        if field == "checkpoint.select" and authors and not is_adversarial(config.method):
            value = "best_sa_val"
        if field == "method.pgdat_clean_forward" and config.method.name == "fat":
            value = False  # it shares the loss of `at`, but its own code has no clean forward
        target[name] = value
    if config.deepaugment.sources is None:
        one = ("authors", "combine") if authors else ("authors",)  # their script takes nets with batch norm too
        edsr_alone = config.method.name == "augmented" and config.method.terms in one
        config.deepaugment.sources = SOURCES[:1] if edsr_alone else SOURCES
