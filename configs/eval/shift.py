"""Out-of-distribution benchmarks: the evaluation images, ImageNet-R, -Sketch, -A, V2, and common corruptions (-C).

    python main.py --mode=evaluate --config=configs/eval/shift.py --workdir=RUN
    python main.py --mode=evaluate --config=configs/eval/shift.py --workdir=RUN --config.sets=imagenet_r,imagenet_c
    python main.py --mode=evaluate --config=configs/eval/shift.py --workdir=RUN --config.corruptions=on_the_fly
    python main.py --mode=evaluate --config=configs/eval/shift.py --workdir=RUN --config.sets=folder:PATH

The result is evaluations/shift.json of the run. A second result needs --config.evaluation.name=NAME.

A run on ImageNet is evaluated on all sets that are there. Missing sets are listed, in the result too, with what they
are and how to get them. A set that you ask for by name must be there. All sets are in one folder,
`config.data.data_dir`, under the names below, or tfds prepares them there. Any other run is evaluated on its own
evaluation images and on corruptions of them, made on the fly. `sets` also takes folders of class folders, and tfds data
sets, with the classes of the run. In a folder the net answers among the classes that are there; on a tfds data set it
may answer any.

On ImageNet-R and -A a net answers among their 200 classes, as in the sets' own evaluation; with `imagenet_r_1000way`
and `imagenet_a_1000way` it may answer any. mCE divides by AlexNet's errors, so only ImageNet has one. The paper's
Figures 3 and 4 show ImageNet-C accuracy, -R and -Sketch. Its authors resized the 224-pixel images of ImageNet-C to 256
before the central crop (`imagenet_c_crop=nofrost`); the set's own evaluation does not (`standard`).
"""

from ml_collections import ConfigDict, config_dict

from configs.eval import suite

_BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"
_V2 = "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main"
_SKETCH = "https://github.com/HaohanWang/ImageNet-Sketch"


def get_config():
    config = suite.make("shift", {})
    config.sets = ""  # names below, folder:PATH, tfds:NAME, separated by commas; "" = all that suit the run
    config.corruptions = ""  # files (ImageNet-C, or what tools.corrupt wrote to shift.imagenet_c.folder) |
    # on_the_fly (of the run's own images) | none. "" = files for ImageNet, otherwise on_the_fly; if sets are named,
    # files if imagenet_c is among them, otherwise none
    config.corruption_names = ""  # separated by commas; "" = the 15 of mCE
    config.severities = (1, 2, 3, 4, 5)
    config.imagenet_c_crop = "standard"  # standard: no resize | nofrost: resize as the run does, to 256, as the authors
    config.jpeg_quality = config_dict.placeholder(int)  # on the fly: JPEG round trip; 0 = none; None = 85 for ImageNet
    # as in the published files, otherwise none
    config.frost_textures = ""  # on the fly: folder with the published frost images 1 to 5; "" = generated ice
    config.shift = {
        "imagenet_r": benchmark(
            what="ImageNet-R: 30,000 renditions of 200 classes (Hendrycks et al., 2021a), 2.2 GB",
            folder="imagenet-r",
            builder="imagenet_r",
            count=30_000,
            get=f"{_BERKELEY}/imagenet-r.tar",
            label_set="imagenet_r",
        ),
        "imagenet_sketch": benchmark(
            what="ImageNet-Sketch: 50,889 sketches (Wang et al., 2019), 7.6 GB",
            folder="sketch",
            builder="imagenet_sketch",
            count=50_889,
            get=f"ImageNet-Sketch.zip from {_SKETCH}",
        ),
        "imagenet_a": benchmark(
            what="ImageNet-A: 7,500 photographs that a ResNet-50 gets wrong (Hendrycks et al., 2021b), 0.7 GB",
            folder="imagenet-a",
            builder="imagenet_a",
            count=7_500,
            get=f"{_BERKELEY}/imagenet-a.tar",
            label_set="imagenet_a",
        ),
        "imagenet_v2": _v2("matched-frequency", "matched-frequency", "matched-frequency"),
        "imagenet_v2_threshold": _v2("threshold-0.7", "threshold0.7", "threshold0.7", default=False),
        "imagenet_v2_top": _v2("topimages", "top-images", "top-images", default=False),
        "imagenet_c": benchmark(
            what="ImageNet-C: 75 x 50,000 corrupted validation images (Hendrycks and Dietterich, 2019), 70 GB",
            folder="ImageNet-C",
            builder="",
            count=50_000,
            get="blur.tar, digital.tar, noise.tar and weather.tar from https://zenodo.org/records/2235448, unpacked as "
            "ImageNet-C/CORRUPTION/SEVERITY/WNID; or --config.corruptions=on_the_fly",
        ),
    }
    for name in ("imagenet_r", "imagenet_a"):
        config.shift[f"{name}_1000way"] = config.shift[name].copy_and_resolve_references()
        config.shift[f"{name}_1000way"].update({"label_set": "all", "default": False})
    return config


def benchmark(what, folder, builder="", split="test", count=0, get="", label_set="all", default=True):
    """An entry of `config.shift`: an evaluation set.

    what, get: texts that say what it is and where to get it. folder: a tree of class folders below
    `config.data.data_dir`; it is tried first. builder, split: of tfds; "" = none. count: images of the complete set,
    0 = unknown. label_set: what the net may answer, see nofrost_jax/shift/label_sets.py. default: whether `sets=""`
    includes it. Images are resized and cropped as in the run. eval_resize changes this: short side before the central
    crop, 0 = no resize.
    """
    fields = {"what": what, "folder": folder, "builder": builder, "split": split, "count": count, "get": get}
    entry = ConfigDict({**fields, "label_set": label_set, "default": default})
    entry.eval_resize = config_dict.placeholder(int)
    return entry


def _v2(variant, tar, folder, default=True):
    return benchmark(
        what=f"ImageNet-V2, {variant}: 10,000 new photographs (Recht et al., 2019), 1.3 GB",
        folder=f"imagenetv2-{folder}-format-val",
        builder=f"imagenet_v2/{variant}",
        count=10_000,
        get=f"{_V2}/imagenetv2-{tar}.tar.gz",
        default=default,
    )
