"""What comes in through the one door: dtypes, layouts, ranges, labels, models, radii, outside jit and inside."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import attacks, models
from nofrost_jax.attacks import APGD, PGD, inputs
from nofrost_jax.classifier import Classifier, create_model, logits_fns
from nofrost_jax.methods import at, trades
from tests.evaluation import suite
from tests.methods import helpers

COUNT, SIZE, CLASSES, RADIUS = 6, 4, 5, 8 / 255
SHAPE = (COUNT, SIZE, SIZE, 3)
WEIGHTS = np.random.default_rng(0).normal(size=(SIZE * SIZE * 3, CLASSES)).astype(np.float32)
IMAGES = np.random.default_rng(1).uniform(0.1, 0.9, SHAPE).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), COUNT)

OPTIONS = {name: {} if name == "fgsm" else {"steps": 3} for name in attacks.NAMES}
OPTIONS |= {"square": {"queries": 12}, "rays": {"queries": 40}}


def linear(images):
    return (images.reshape(len(images), -1) - 0.5) @ jnp.asarray(WEIGHTS, images.dtype)


LABELS = np.asarray(jnp.argmax(linear(IMAGES), -1), np.int32)


class Mean:
    """A net whose logits are the channels' means."""

    has_branches = False

    def apply(self, variables, inputs, train):
        return inputs.mean((1, 2)) * variables["scale"]


CLASSIFIER = Classifier({"scale": jnp.float32(1)}, Mean(), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
WHOLE = (IMAGES * 255).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint16", "bool", "complex64"])
def test_a_classifier_refuses_dtypes_that_it_would_misread_also_under_jit(dtype):
    for call in (CLASSIFIER, CLASSIFIER.predict, jax.jit(CLASSIFIER)):
        with pytest.raises(ValueError, match=r"must be uint8 in 0 to 255, or float in \[0, 1\], got "):
            call(WHOLE.astype(dtype))


def test_a_classifier_reads_uint8_every_float_and_lists_alike():
    right = np.asarray(CLASSIFIER(WHOLE / np.float32(255)))
    for images in (WHOLE, WHOLE / 255, list(WHOLE), jnp.asarray(WHOLE), (WHOLE / 255).tolist()):
        np.testing.assert_allclose(CLASSIFIER(images), right, atol=1e-6)
    assert CLASSIFIER((WHOLE / 255).astype(np.float16)).dtype == np.float32
    assert CLASSIFIER(IMAGES[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("images", "hint"),
    [
        (IMAGES.transpose(0, 3, 1, 2), r"\(6, 3, 4, 4\); channels come last: images.transpose\(0, 2, 3, 1\)"),
        (IMAGES[0], r"\(4, 4, 3\); a single image needs a first axis"),
        (IMAGES[..., :2], r"\[N, H, W, 3\], got shape \(6, 4, 4, 2\)"),
        (IMAGES.ravel(), r"got shape \(288,\)"),
        ([IMAGES[0], IMAGES[0, :2]], "must be an array, not list"),
        ("photo.png", "must be an array, not str"),
    ],
)
def test_a_layout_that_does_not_fit_is_named_with_what_to_do(images, hint):
    with pytest.raises(ValueError, match=hint):
        CLASSIFIER(images)


NAN = np.where(np.arange(COUNT)[:, None, None, None] == 2, np.nan, IMAGES).astype(np.float32)
WRONG_PIXELS = {  # images, which of them are wrong, what to do
    "normalized": ((IMAGES - 0.4) / 0.2, "normalization belongs in the model"),
    "whole": (IMAGES * 255, "6 of 6 .* divide pixel values by 255"),
    "sixteen": (IMAGES * 16, "6 of 6 .* divide them by their greatest possible value"),
    "one NaN": (NAN, "1 of 6 .* NaN"),
    "beyond": (IMAGES * np.float32(1.3), "clip"),
}


@pytest.mark.parametrize("case", WRONG_PIXELS)
def test_pixels_out_of_range_are_refused_and_under_jit_their_outcome_is_nan(case):
    images, hint = WRONG_PIXELS[case]
    wrong = ~((images >= 0) & (images <= 1)).all((1, 2, 3))
    assert wrong.any()
    attack = PGD(RADIUS, steps=2)
    for call in (CLASSIFIER, CLASSIFIER.predict, lambda x: attack(linear, x, LABELS, KEYS)):
        with pytest.raises(ValueError, match=hint):
            call(images)
    logits = jax.jit(CLASSIFIER)(images)
    found = jax.jit(lambda x: attack(linear, x, LABELS, KEYS))(images).images
    for outcome in (logits, found):
        assert np.isnan(outcome[wrong]).all() and np.isfinite(outcome[~wrong]).all()
    assert (np.asarray(jax.jit(CLASSIFIER.predict)(images) == -1) == wrong).all()


@pytest.mark.parametrize("name", ["pgd", "apgd_ce", "rays"])  # the last iterate, what fools, signs and no gradients
def test_no_attack_lets_wrong_labels_or_images_through_and_leaves_the_others_alone(name):
    """Under jit, where they are 255 times too large, and where a label is no class."""
    attack = attacks.create(name, epsilon_255=8, **(OPTIONS[name]))
    images, labels = IMAGES.copy(), LABELS.copy()
    images[1] *= 255
    labels[[2, 3]] = CLASSES, -1
    run = jax.jit(lambda x, y, k: attack(linear, x, y, k))
    found, alone = run(images, labels, KEYS), run(IMAGES, LABELS, KEYS)
    assert np.isnan(found.images[1:4]).all()
    others = [0, 4, 5]
    for one, other in zip(found, alone, strict=True):
        assert (np.asarray(one)[others] == np.asarray(other)[others]).all()
    with pytest.raises(ValueError, match=r"labels must be 0 to 4.* 2 of 6 range from -1 to 5"):
        attack(linear, IMAGES, labels, KEYS)
    inactive = np.isin(np.arange(COUNT), others)
    kept = jax.jit(lambda x, y, k: attack(linear, x, y, k, inactive))(images, labels, KEYS).images
    assert (np.asarray(kept)[~inactive] == images[~inactive]).all(), "rows that are not attacked come back as they are"


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        (np.eye(CLASSES, dtype=np.float32)[LABELS], r"float32 \(6, 5\); convert one-hot labels with labels.argmax"),
        (LABELS.astype(np.float32), "must be integers"),
        (LABELS % 2 == 0, "must be integers"),
        (LABELS + 1, "labels must be 0 to 4"),
    ],
)
def test_labels_that_are_none_are_named(labels, hint):
    with pytest.raises(ValueError, match=hint):
        PGD(RADIUS, steps=1)(linear, IMAGES, labels, KEYS)


def test_labels_may_be_of_any_integer_type_or_a_list():
    attack = attacks.TargetedPGD(RADIUS, steps=2)  # it computes with them
    found = [attack(linear, IMAGES, y, KEYS).images for y in (LABELS.tolist(), LABELS.astype(np.uint8))]
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: (linear(x), x), r"it returned \('float32\[6, 5\]', 'float32\[6, 4, 4, 3\]'\)"),
        (lambda x: {"logits": linear(x)}, r"\{'logits': 'float32\[6, 5\]'\}"),
        (lambda x: linear(x)[:, :, None, None], r"float32\[6, 5, 1, 1\]"),
        (lambda x: linear(x)[:, 0], r"float32\[6\]"),
        (lambda x: jnp.argmax(linear(x), -1), r"int32\[6\]"),
        (lambda x: linear(x)[:1], r"\[6, K\]; it returned float32\[1, 5\]"),
        (lambda x: linear(x)[:, :1], "needs 2 classes or more, not 1"),
        (lambda x: np.asarray(x).reshape(len(x), -1) @ WEIGHTS, "must be a JAX function"),
    ],
)
def test_a_model_that_returns_no_logits_is_named_with_its_shapes(model, message):
    for attack in (PGD(RADIUS, steps=1), APGD(RADIUS, steps=1), attacks.Square(RADIUS, queries=1)):
        with pytest.raises(ValueError, match=message):
            attack(model, IMAGES, LABELS, KEYS)


def test_a_model_in_training_mode_is_told_to_leave_it():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self):
            self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))

        def __call__(self, images):
            return self.norm(images).mean((1, 2))

    net = Net()
    with pytest.raises(ValueError, match=r"evaluation mode, e.g. model.eval\(\)"):
        PGD(RADIUS, steps=1)(net, IMAGES, LABELS % 3, KEYS)
    net.eval()
    assert PGD(RADIUS, steps=1)(net, IMAGES, LABELS % 3, KEYS).images.shape == SHAPE


def test_pytorch_images_are_taken_and_its_models_are_not():
    torch = pytest.importorskip("torch")
    images, labels = torch.tensor(IMAGES), torch.tensor(LABELS)
    assert (CLASSIFIER(images) == CLASSIFIER(IMAGES)).all()
    attack = PGD(RADIUS, steps=2)
    assert attack(linear, images, labels, KEYS).images.shape == SHAPE
    with pytest.raises(ValueError, match="must be an array, not Tensor"):
        CLASSIFIER(images.requires_grad_())
    with pytest.raises(ValueError, match="PyTorch"):
        attack(torch.nn.Linear(3, 3), IMAGES, LABELS, KEYS)


def test_a_classifier_can_be_a_static_argument_of_jit_and_a_traced_one():
    attack = PGD(RADIUS, steps=2)
    arguments = CLASSIFIER, IMAGES, LABELS % 3, KEYS
    static, traced = jax.jit(attack, static_argnums=0)(*arguments), jax.jit(attack)(*arguments)
    np.testing.assert_allclose(static.images, traced.images, atol=1e-6)


def test_a_classifier_lets_the_start_of_trades_pass():
    """It leaves [0, 1] by a normal draw's thousandths."""
    attack = attacks.create("pgd_kl", epsilon_255=8, steps=2)
    edge = np.round(IMAGES)
    checked = jax.jit(lambda x: attack(CLASSIFIER, x, LABELS % 3, KEYS).images)(edge)
    vouched = CLASSIFIER.replace(inputs_are_checked=True)
    assert (checked == jax.jit(lambda x: attack(vouched, x, LABELS % 3, KEYS).images)(edge)).all()


@pytest.mark.parametrize("loss_of", [at.make_loss, trades.make_loss])
def test_training_steps_and_evaluations_vouch_for_their_values(loss_of, monkeypatch):
    """Their programs have no operation of the door."""
    config, model = helpers.tiny_config(), helpers.SmallNet(norm="")
    variables = models.init(model, jax.random.key(0), helpers.SIZE)
    image_keys = jax.random.split(jax.random.key(0), helpers.BATCH)
    trace = functools.partial(jax.eval_shape, loss_of(model, config, PGD(RADIUS, steps=2)))
    evaluated, shape = suite.tiny_config(), (4, 8, 8, 3)
    fresh = models.abstract_variables(create_model(evaluated.model), 8)
    monkeypatch.setattr(inputs, "good", lambda *_, **__: pytest.fail("the values are looked at again"))
    trace(variables["params"], {}, helpers.DATA, image_keys)
    jax.eval_shape(logits_fns(evaluated)["float32"], fresh, jax.ShapeDtypeStruct(shape, np.float32))


def traced(attack_of, radii):
    """(images at each of the radii by one compiled program, how often it was traced)."""
    count = []

    @jax.jit
    def run(epsilon):
        count.append(1)
        return attack_of(epsilon)(linear, IMAGES, LABELS, KEYS).images

    return [np.asarray(run(jnp.float32(radius))) for radius in radii], len(count)


@pytest.mark.parametrize("name", [*attacks.NAMES, "pgd_l2"])
def test_a_sweep_of_radii_compiles_once_and_finds_what_each_radius_finds(name):
    def attack_of(epsilon):
        if name == "pgd_l2":
            return PGD(10 * epsilon, steps=3, norm="l2")
        return attacks.create(name, epsilon=epsilon, **OPTIONS[name])

    radii = [0.0, 2 / 255, 8 / 255, 16 / 255, 0.5]
    found, traces = traced(attack_of, radii)
    assert traces == 1
    attack = attack_of(radii[2])
    alone = jax.jit(lambda x: attack(linear, x, LABELS, KEYS).images)(IMAGES)
    np.testing.assert_allclose(found[2], alone, atol=1e-6)
    assert np.abs(found[0] - IMAGES).max() == 0
    assert np.abs(found[-1] - IMAGES).max() > 0


def test_a_radius_may_be_mapped_over():
    epsilons = jnp.array([0.01, 0.02])
    found = jax.vmap(lambda epsilon: PGD(epsilon, steps=2)(linear, IMAGES, LABELS, KEYS).images)(epsilons)
    np.testing.assert_allclose(jnp.abs(found - IMAGES).max((1, 2, 3, 4)), epsilons, atol=1e-6)


@pytest.mark.parametrize("rule", ["nofrost", "madry", "eps_over_4", "fixed:1.0", "epsilon_times:1.25"])
def test_step_rules_take_a_traced_radius(rule):
    size = jax.jit(lambda epsilon: attacks.threat.step_size(rule, epsilon, 10))
    for radius in (2 / 255, 64 / 255):
        assert size(radius) == pytest.approx(attacks.threat.step_size(rule, radius, 10), rel=1e-6)


def test_a_radius_that_is_none_is_refused_and_under_jit_nan():
    for wrong in (np.float32([0.1, 0.2]), jnp.ones((1, 1)), "8/255", None, True, np.float32(8), jnp.float32(-1)):
        with pytest.raises(ValueError, match="epsilon"):
            PGD(wrong)
    found, _ = traced(lambda epsilon: PGD(epsilon, steps=1), [8.0, -0.1, float("nan"), 0.1])
    assert [bool(np.isnan(images).all()) for images in found] == [True, True, True, False]


def test_nothing_is_known_of_values_only_inside_jit():
    """Constants inside jit are as good as arguments outside."""

    @jax.jit
    def run(epsilon):
        return PGD(0.1, steps=1)(linear, IMAGES * 2, LABELS, KEYS).images + epsilon

    with pytest.raises(ValueError, match="images must be"):
        run(1.0)
    assert inputs.good(jnp.asarray(IMAGES)) is None
