"""Runs a classifier over an evaluation set, clean and attacked, on all devices; believes no attack's own verdict."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from nofrost_jax import attacks, data, keys, parallel
from nofrost_jax.classifier import Classifier, create_model, to_float
from nofrost_jax.evaluation import results


class Evaluator:
    """Clean accuracy and every attack of `config.evaluation.attacks`, on `config.data`'s evaluation split.

    The forward that decides is float32 at highest matmul precision and separate from the attack. Each attack compiles
    once per run. An image's outcome depends on its own index and the seed, not on the batch or the device count.
    """

    def __init__(self, config, devices):
        self._config, self._devices = config, devices
        model = create_model(config.model, dtype="float32")
        settings = (model, tuple(config.data.mean), tuple(config.data.std), config.evaluation.mbn_gamma)
        self._classifier = lambda variables: Classifier(variables, *settings)
        self._attacks = {name: dict(options) for name, options in config.evaluation.attacks.items()}
        self._mapped = {name: devices.map_shards(self._attacked(name)) for name in self._attacks}
        self._mapped_clean = devices.map_shards(self._clean)

    def _clean(self, variables, batch, key):
        del key
        with jax.default_matmul_precision("highest"):
            logits = self._classifier(variables)(batch["image"])
        return {"correct": jnp.argmax(logits, -1) == batch["label"], "nan": ~jnp.all(jnp.isfinite(logits), -1)}

    def _attacked(self, name):
        attack = self.attack(name)

        def evaluate(variables, batch, key):
            classifier, images = self._classifier(variables), to_float(batch["image"])
            image_keys = keys.per_image(keys.named(key, name), batch["index"])
            with jax.default_matmul_precision("highest"):
                result = attack(classifier, images, batch["label"], image_keys)
            checked = self._clean(variables, {"image": result.images, "label": batch["label"]}, key)
            # A NaN pixel need not reach the logits: XLA's relu and maximum may drop it on a CPU.
            finite = jnp.all(jnp.isfinite(result.images), axis=(1, 2, 3))
            linf = jnp.max(jnp.abs(result.images - images), axis=(1, 2, 3)) * 255
            return {
                "correct": checked["correct"],
                "nan": checked["nan"] | ~finite,
                "linf_255": jnp.where(finite, linf, 0),
                "in_range": jnp.all((result.images >= 0) & (result.images <= 1), axis=(1, 2, 3)),
                "forwards": result.forwards,
                "backwards": result.backwards,
            }

        return evaluate

    def attack(self, name):
        """The attack object behind a name of `config.evaluation.attacks`."""
        return attacks.create(**{k: v for k, v in self._attacks[name].items() if k != "protocol"})

    def run(self, variables, limit=0):
        """Per-image outcomes of replicated `variables`, as NumPy, padding removed.

        {"index", "label", "clean_correct", "nan", "attacks": {name: {"robust", ...}}, "seconds": {name: float}}
        """
        config = self._config
        key = self._devices.replicate(keys.named(jax.random.key(config.seed), "evaluation"))
        names = {"clean": self._mapped_clean, **self._mapped}
        collected, seconds = {name: [] for name in names}, dict.fromkeys(names, 0.0)
        host_batches = []
        batches = data.eval_batches(
            config, config.evaluation.batch_size, jax.process_index(), jax.process_count(), limit=limit
        )
        for batch in batches:
            mask = batch.pop("mask")
            placed = self._devices.shard(batch)
            host_batches.append(self._gathered({"index": batch["index"], "label": batch["label"], "mask": mask}))
            for name, mapped in names.items():
                start = time.perf_counter()
                collected[name].append(parallel.gather_to_hosts(mapped(variables, placed, key)))
                seconds[name] += time.perf_counter() - start
        head = _concatenate(host_batches)
        keep, order = head["mask"], np.argsort(head["index"][head["mask"]], kind="stable")
        pick = lambda rows: {name: value[keep][order] for name, value in _concatenate(rows).items()}  # noqa: E731
        clean = pick(collected["clean"])
        right = clean["correct"] & ~clean["nan"]
        outcomes = {"clean_correct": right, "nan": clean["nan"], "seconds": seconds, "attacks": {}}
        outcomes |= {name: head[name][keep][order] for name in ("index", "label")}
        for name in self._attacks:
            rows = pick(collected[name])
            rows["robust"] = right & rows.pop("correct") & ~rows["nan"]
            outcomes["attacks"][name] = rows
        return outcomes

    def _gathered(self, arrays):
        """Host arrays of this process's share -> of the global batch."""
        if jax.process_count() == 1:
            return arrays
        return jax.experimental.multihost_utils.process_allgather(arrays, tiled=True)

    def entries(self, outcomes):
        """The `attacks` rows of the result schema."""
        return [
            results.attack_entry(
                name, self._attacks[name], outcome, self._attacks[name]["epsilon_255"], outcomes["seconds"][name]
            )
            for name, outcome in outcomes["attacks"].items()
        ]


def _concatenate(rows):
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
