"""What each warning that goes with a result means, for the tables on the screen and for the report."""

DESCRIPTIONS = {
    "randomised": "INVALID: five forward passes of one batch differ: the attack and the verdict saw different nets",
    "probabilities": "the net's outputs are probabilities, not logits: gradients and DLR losses vanish",
    "nan": "INVALID: logits or adversarial images are not finite; these images count as not robust",
    "budget_violated": "INVALID: an adversarial image is outside the ball",
    "range_violated": "INVALID: an adversarial image is outside [0, 1]",
    "zero_gradient": "the first gradient of an image was all zeros: the attack was blind there",
    "unconfirmed": "the attack claimed successes that the float32 forward pass does not confirm",
    "few_classes": "fewer than ten classes: a targeted attack has fewer than nine targets",
    "square_wins": "Square lowers the accuracy of its cascade by more than 0.2 points: gradients may be masked",
    "not_converged": "100 steps of APGD-CE fool over 1 % more of the images than 20 steps: 20 steps say little",
    "weak_attack": "another attack, which should not be stronger, fools over 1 % more of the images at the same radius",
    "selected_on_evaluation": "the checkpoint was chosen by its accuracy on these same images (checkpoint.select)",
    "partial": "not all images of the split or set, or not all corruptions: not comparable with published numbers",
    "classes_missing": "some classes of a set's list have no images: the set is not complete",
    "cropped": "the net sees only the centre of larger corrupted files: not comparable with published numbers",
    "vanishes": "a corruption leaves images of this size unchanged",
    "large_epsilon": "the accuracy is above 5 % at the largest radius of a sweep, 32/255 or more",
}
