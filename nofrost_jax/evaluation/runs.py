"""What a run's config says to the engine: its net, its images, its attacks."""

import jax

from nofrost_jax import classifier, data
from nofrost_jax.evaluation import cascades
from nofrost_jax.evaluation.engine import Evaluator
from nofrost_jax.evaluation.programs import Programs
from nofrost_jax.fields import to_plain


def programs(config, devices):
    """The Programs of a resolved config's net, in its evaluation's batches."""
    size = config.evaluation.batch_size // jax.process_count()
    return Programs(classifier.logits_fns(config), config.model.num_classes, devices, size)


def evaluator(config, devices, spec, compiled=None):
    """The Evaluator of a resolved config: every attack of `evaluation.attacks` on the evaluation split that `spec` is
    of. compiled: the Programs of the same net and batch, if there are any. Its variables are those of
    `classifier.at_gamma` for `evaluation.mbn_gamma`."""
    return Evaluator(
        compiled or programs(config, devices),
        cascades.make_plans(config),
        Split(config, spec.num_eval),
        config.seed,
        net_of(config),
        config.evaluation.save_images,
    )


def net_of(config):
    """What a config's net is beside its parameters: plain values."""
    names = ("mbn_gamma", "mbn_interpolation", "mbn_p", "mbn_seed") if config.model.norm == "mbn" else ("mbn_gamma",)
    return {"model": to_plain(config)["model"], **{name: config.evaluation[name] for name in names}}


class Split:
    """The evaluation images of a config, a set: those of `num_eval` that `evaluation.limit` and `ids` choose.

    count: how many; chunk_size: of them in memory at once.
    """

    def __init__(self, config, num_eval):
        self.config, self.choice = config, data.choice_of(config)
        self.count = self.choice.count(num_eval)
        # Each process has chunks of its own: where there are few images, smaller ones, so that none stands idle.
        self.chunk_size = min(config.evaluation.chunk_size, -(-self.count // jax.process_count()))

    def batches(self, size, process, processes, wanted):
        """See `data.eval_batches`."""
        return data.eval_batches(self.config, size, process, processes, choice=self.choice, wanted=wanted)

    def ranks(self):
        """The place of each image in the order of classes and file names, which is that of any source: int [count]."""
        return data.eval_ranks(self.config, self.choice)

    def identity(self):
        """What tells these images from others, plain values. Of a folder and of tfds, what is in it counts
        (`data.fingerprint`) and not where it lies; how it is read is left out. Raises UserError."""
        section = self.config.data
        geometry = ["source", "eval_split", "image_size", "eval_resize", "eval_pad", "mean", "std"]
        if section.eval_split == "holdout":
            geometry += ["holdout", "train_split"]  # which images these are
        plain = to_plain(self.config)["data"]
        found = {name: plain[name] for name in geometry}
        if contents := data.fingerprint(self.config):
            found |= {"source": "folder" if section.source.startswith("folder:") else section.source}
            found |= {"contents": contents}
        return {"data": found, **self.choice.plain}
