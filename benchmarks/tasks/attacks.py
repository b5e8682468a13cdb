"""AutoAttack on the device: ours and, if PyTorch, timm and pyautoattack are installed, pyautoattack.

    python -m benchmarks.tasks.attacks --output=FILE

digits: APGD-CE-100 and aa_standard on the committed checkpoint and its 360 images, up to three rounds, seconds with
compilation and without (benchmarks/attacks.py has the same on a CPU). resnet50: APGD-CE-100 on 64
images of 224 pixels by a ResNet-50 of random weights, the same in both; labels are its own predictions. Both programs
run at their default precision.
"""

import functools
import importlib.util
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.tasks import common
from nofrost_jax import attacks, keys, models
from nofrost_jax.classifier import Classifier
from nofrost_jax.convert.timm import from_timm

FIRST = ("apgd_ce_100/0", "resnet50/0", "aa_standard/0")  # what is measured, and the round
MORE = ("apgd_ce_100/1", "aa_standard/1", "apgd_ce_100/2", "aa_standard/2")  # if there is time
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPSILON = 8 / 255
NEEDED = ("torch", "timm", "pyautoattack")


def main() -> None:
    task = common.start("attacks", __doc__)
    absent = [name for name in NEEDED if not importlib.util.find_spec(name)]
    task.record("absent", absent)
    with_peer = not absent
    if with_peer and task.rehearse:
        import torch

        torch.set_num_threads(1)  # on nets this small more would wait for each other
    wanted, longest = FIRST[:2] if task.rehearse else FIRST, 10.0
    for key in wanted if task.rehearse else FIRST + MORE:
        (label, _, number), begun = key.partition("/"), time.perf_counter()
        known = key in task.figures and ("pyautoattack" in task.figures[key] or not with_peer)
        if known or task.left() < longest:
            continue
        measure = resnet50 if label == "resnet50" else functools.partial(digits, label, int(number))
        for row in measure(task.figures.get(key, {}), task.rehearse, with_peer):
            task.record(key, row)
        longest = max(longest, time.perf_counter() - begun)
        print(f"{key}: {task.figures[key]}", flush=True)
    if absent:
        print(f"some of it is left out without {', '.join(absent)}", flush=True)
    elif task.figures.keys() >= {*wanted}:
        task.finish(headline(task.figures))


def digits(label, number, row, rehearse, with_peer):
    """One round of a suite on the digits checkpoint. Yields {"ours_with_compilation", "ours", "our_robust_accuracy"},
    unless `row` has it from an attempt that was cut short, then the same with {"pyautoattack", "peer_robust_accuracy",
    "largest_logit_difference"}."""
    import nofrost_jax
    from benchmarks import attacks as benchmark
    from benchmarks import torch_peer

    count = size = 4 if rehearse else 360
    classifier = nofrost_jax.load(common.CHECKPOINT)
    if "ours" not in row:
        row = benchmark.ours(classifier, label, size, count)
        yield row
    if with_peer:
        batch, net = benchmark.digits_batch(size, count), torch_peer.twin(classifier, torch_device())
        images, labels = torch_peer.to_torch(batch["image"] / np.float32(255), batch["label"], torch_device())
        apart = torch_peer.logit_difference(net, images, classifier, batch["image"])
        chosen, steps = benchmark.PEER_ATTACKS[label], 3 if rehearse else 100
        found = torch_peer.attack(net, images, labels, chosen, row["epsilon"], size, number, steps)
        yield row | {"largest_logit_difference": apart, **found}


def resnet50(row, rehearse, with_peer):
    """APGD-CE-100 of random weights. Yields {"compile", "ours": [seconds], "our_robust_accuracy"}, then with the
    peer's, as above."""
    size, count, steps = (32, 2, 2) if rehearse else (224, 64, 100)
    stages = (1, 1, 1, 1) if rehearse else (3, 4, 6, 3)
    model = models.create("resnet50", num_classes=1000, stage_sizes=stages)
    variables, net = models.init(model, jax.random.key(0), size), None
    if with_peer:
        net = timm_net(stages)
        variables = from_timm({name: value.numpy() for name, value in net[1].state_dict().items()}, model)
    classifier = Classifier(jax.device_put(variables), model, MEAN, STD)
    images = np.random.default_rng(0).uniform(size=(count, size, size, 3)).astype(np.float32)
    labels = np.asarray(jax.jit(lambda classifier, images: classifier.predict(images))(classifier, images))
    image_keys = keys.per_image(jax.random.key(0), jnp.arange(count))
    attack = attacks.APGD(EPSILON, steps, "ce")

    @jax.jit
    def run(classifier, images):
        result = attack(classifier, images, labels, image_keys)
        return result.images, classifier.predict(result.images) == labels

    if "ours" not in row:
        begin = time.perf_counter()
        compiled = run.lower(classifier, images).compile()
        row = {"images": count, "compile": time.perf_counter() - begin}
        seconds = common.timed(lambda: compiled(classifier, images), 3)
        row |= {"ours": seconds, "our_robust_accuracy": float(jnp.mean(compiled(classifier, images)[1]))}
        yield row
    if with_peer:
        from benchmarks import torch_peer

        net = net.to(torch_device())
        pixels, wanted = torch_peer.to_torch(images, labels, torch_device())
        apart = torch_peer.logit_difference(net, pixels, classifier, images)
        found = torch_peer.attack(net, pixels, wanted, ["apgd-ce"], EPSILON, count, 0, steps)
        yield row | {"largest_logit_difference": apart, **found}


def timm_net(stages):
    """Normalization and timm's ResNet-50 of random weights, in evaluation mode: NCHW in [0, 1] -> logits."""
    import timm
    import torch

    torch.manual_seed(0)

    class Normalize(torch.nn.Module):
        def forward(self, x):
            mean, std = (torch.tensor(values, device=x.device)[:, None, None] for values in (MEAN, STD))
            return (x - mean) / std

    return torch.nn.Sequential(Normalize(), timm.create_model("resnet50", layers=stages, zero_init_last=False)).eval()


def torch_device():
    import torch

    return "cuda" if torch.cuda.is_available() and jax.default_backend() != "cpu" else "cpu"


def headline(figures):
    """Seconds of ours, compiled, and of pyautoattack."""
    pairs = [(label, figures[f"{label}/0"]) for label in ("aa_standard", "resnet50") if f"{label}/0" in figures]
    shown = [
        f"{label} {np.median(row['ours']):.1f} s (pyautoattack {row['pyautoattack']:.1f} s)" for label, row in pairs
    ]
    return "; ".join(shown)


if __name__ == "__main__":
    main()
