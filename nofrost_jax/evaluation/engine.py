"""Runs a classifier over an evaluation set, clean and attacked, on all devices; believes no attack's own verdict."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from nofrost_jax import attacks, data, keys, metrics, parallel
from nofrost_jax.classifier import Classifier, create_model, to_float
from nofrost_jax.errors import Preempted
from nofrost_jax.evaluation import results

CLEAN = "clean"  # the program without an attack; no attack may be called so


class Evaluator:
    """Clean accuracy and every attack of `config.evaluation.attacks`, on `config.data`'s evaluation split.

    The forward that decides is float32 at highest matmul precision and separate from the attack. Each attack compiles
    once per run. An image's outcome depends on its own index and the seed, not on the batch or the device count.
    """

    def __init__(self, config, devices, spec):
        self._config, self._devices, self._count = config, devices, spec.num_eval
        self._called = set()
        model = create_model(config.model, dtype="float32")
        settings = (model, tuple(config.data.mean), tuple(config.data.std), config.evaluation.mbn_gamma)
        self._classifier = lambda variables: Classifier(variables, *settings)
        self._attacks = {name: dict(options) for name, options in config.evaluation.attacks.items()}
        programs = {CLEAN: self._clean} | {name: self._attacked(name) for name in self._attacks}
        self._mapped = {name: devices.map_shards(program) for name, program in programs.items()}

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

    def run(self, variables, stop, progress=False):
        """Per-image outcomes of replicated `variables`, as NumPy, padding removed.

        stop: asked between batches; raises Preempted when it says so. progress: print how far it is.

        {"index", "label", "clean_correct", "nan", "attacks": {name: {"robust", ...}}, "seconds": {name: float}}
        """
        config = self._config
        key = self._devices.replicate(keys.named(jax.random.key(config.seed), "evaluation"))
        collected, seconds = {name: [] for name in self._mapped}, dict.fromkeys(self._mapped, 0.0)
        heads, reporter = [], Reporter(min(config.evaluation.limit or self._count, self._count), active=progress)
        for batch in data.eval_batches(
            config,
            config.evaluation.batch_size,
            jax.process_index(),
            jax.process_count(),
            limit=config.evaluation.limit,
        ):
            if stop.requested():
                raise Preempted("stopped by SIGTERM during an evaluation; run the same command again to go on")
            mask = batch.pop("mask")
            placed = self._devices.shard(batch)
            head = {"index": batch["index"], "label": batch["label"], "mask": mask}
            heads.append(parallel.gather_host_arrays(head))
            for name, mapped in self._mapped.items():
                start = time.perf_counter()
                reporter.first_call(name, self._called)
                collected[name].append(parallel.gather_to_hosts(mapped(variables, placed, key)))
                seconds[name] += time.perf_counter() - start
            reporter.done(int(heads[-1]["mask"].sum()))
        return self._outcomes(
            _concatenate(heads), {name: _concatenate(rows) for name, rows in collected.items()}, seconds
        )

    def _outcomes(self, head, collected, seconds):
        """Drops the padding and puts the images in the order of their index."""
        keep, order = head["mask"], np.argsort(head["index"][head["mask"]], kind="stable")
        collected = {
            name: {column: values[keep][order] for column, values in rows.items()} for name, rows in collected.items()
        }
        clean = collected.pop(CLEAN)
        right = clean["correct"] & ~clean["nan"]
        for rows in collected.values():
            rows["robust"] = right & rows.pop("correct") & ~rows["nan"]
        index, label = (head[name][keep][order] for name in ("index", "label"))
        outcomes = {"index": index, "label": label, "clean_correct": right, "nan": clean["nan"]}
        return outcomes | {"seconds": seconds, "attacks": collected}

    def entries(self, outcomes):
        """The `attacks` rows of the result schema."""
        return [
            results.attack_entry(
                name, self._attacks[name], outcome, self._attacks[name]["epsilon_255"], outcomes["seconds"][name]
            )
            for name, outcome in outcomes["attacks"].items()
        ]


class Reporter:
    """Says what compiles, and every ten seconds how far an evaluation is."""

    def __init__(self, total, active):
        self._total, self._active, self._done = total, active, 0
        self._start = self._said = time.perf_counter()

    def first_call(self, name, called):
        """Called before each program's call; `called` remembers the programs that have been compiled."""
        if name not in called and self._active:
            print(f"compiling {name} ...", flush=True)
        called.add(name)

    def done(self, count):
        """`count` more images are done. The first batch, which compiles, is left out of the rate."""
        now = time.perf_counter()
        if not self._done:
            self._start, self._first = now, count
        self._done += count
        if self._active and self._done > self._first and now - self._said > 10:
            rate = (self._done - self._first) / (now - self._start)
            left = metrics.format_seconds((self._total - self._done) / rate)
            print(f"evaluated {self._done}/{self._total}  {rate:.1f} images/s  {left} left", flush=True)
            self._said = now


def _concatenate(rows):
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
