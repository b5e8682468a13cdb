"""What values the geometry and the normalization of `config.data` may have."""

from ml_collections import ConfigDict

from nofrost_jax.errors import UserError


def check(data: ConfigDict) -> None:
    """Raises UserError for the first rule that the section `data` of a resolved config breaks."""
    for name in ("mean", "std"):
        _check_channels(f"config.data.{name}", data[name])
    if min(data.mean) < 0:
        raise UserError(f"config.data.mean={data.mean} must not be negative: images are in [0, 1]")
    if min(data.std) <= 0:
        raise UserError(f"config.data.std={data.std} must be positive: it divides the images")
    for name in ("crop_scale", "tda_crop_scale"):
        scale = data[name]
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise UserError(f"config.data.{name}={scale} needs the least and the greatest share of the area, of 0 to 1")
    if data.train_resize and data.augmentation != "random_resized_crop":
        raise UserError(
            f"config.data.train_resize={data.train_resize} is for config.data.augmentation=random_resized_crop, now "
            f"{data.augmentation}, which starts from the evaluation's geometry; set it to 0"
        )


def _check_channels(field: str, values: tuple[float, ...]) -> None:
    if len(values) != 3:
        raise UserError(f"{field}={values} needs three values, one for each colour channel")
    if max(values) > 1:
        scaled = ", ".join(f"{value / 255:.3g}" for value in values)
        raise UserError(
            f"{field}={values} is on the [0, 255] scale, it seems; images are in [0, 1], so divide by 255: ({scaled})"
        )
