"""The values that `config.recipe` gives to open fields: those of the paper, or of the authors' code.

The table in configs/common.py gives the source of each value.
"""

from ml_collections import ConfigDict

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
        # Only NoFrost* and Combine leave these open.
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
        "checkpoint.select": "best_ra_val",  # best_sa_val for methods without an attack
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


def fill(config: ConfigDict) -> None:
    """Fills the open fields of an unlocked config in place. Raises UserError for an unknown recipe."""
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
            value = False  # it uses the loss of `at`, but its authors have no clean forward
        target[name] = value
    if config.deepaugment.sources is None:
        one = ("authors", "combine") if authors else ("authors",)  # NoFrost*: also with batch norm
        edsr_alone = config.method.name == "augmented" and config.method.terms in one
        config.deepaugment.sources = SOURCES[:1] if edsr_alone else SOURCES
