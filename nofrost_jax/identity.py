"""What a run's result depends on, so that a folder, a checkpoint or a result is not taken for another's."""

import json

from nofrost_jax import files
from nofrost_jax.fields import differences, to_plain

# A run goes on under other values of these: they change neither the net nor what is measured of it.
FREE_FIELDS = {
    "data.data_dir": "where the data lies",
    "deepaugment.folders": "where its images lie; `Dataset.training_fingerprint` tells which they are",
    "data.workers": "batches are a function of seed and step, whoever decodes them",
    "data.on_error": "up to here nothing was unreadable, or it was skipped",
    "data.other_files": "what is no image is no image",
    "evaluation.name": "what the result is called",
    "evaluation.batch_size": "an image's outcome does not depend on those beside it",
    "evaluation.chunk_size": "nor on how the images are cut in chunks",
    "evaluation.save_images": "pictures beside the result",
    "evaluation.while_training": "what is looked at on the way",
    "evaluation.every_epochs": "when, unless the checkpoint is chosen by it",
    "evaluation.mbn_gammas": "for --mode=evaluate alone",
    "checkpoint.every_steps": "when the state is saved",
    "checkpoint.keep": "how often",
    "log.every_steps": "what is written down",
    "log.tensorboard": "and where",
}


def changes(old, new):
    """(differences that change the result, differences in FREE_FIELDS) between two resolved configs, plain dicts."""
    lines = differences(old, new)
    deciding = set(differences(of_result(old), of_result(new)))
    return [line for line in lines if line in deciding], [line for line in lines if line not in deciding]


def of_result(plain):
    """A resolved config, a plain dict, without FREE_FIELDS and the place of folders: all that a run's result depends on
    beside what is in the data (`Dataset.training_fingerprint`, `Dataset.fingerprint`)."""
    kept = {name: dict(value) if isinstance(value, dict) else value for name, value in plain.items()}
    looks_decide = kept.get("checkpoint", {}).get("select", "last") != "last"
    for field in FREE_FIELDS:
        section, name = field.split(".")
        if not (looks_decide and field == "evaluation.every_epochs"):
            kept.get(section, {}).pop(name, None)
    if str(kept.get("data", {}).get("source")).startswith("folder:"):
        kept["data"]["source"] = "folder:"
    return kept


def of(config):
    """{"config", "config_sha256"} of a resolved config: what its result depends on, as every checkpoint keeps it."""
    plain = of_result(to_plain(config))
    return {"config": plain, "config_sha256": files.sha256(json.dumps(plain, sort_keys=True))}
