"""Out-of-distribution benchmarks: the evaluation images, ImageNet-R, -Sketch, -A, V2, and common corruptions (-C).

    python main.py --mode=evaluate --config=configs/eval/shift.py --workdir=RUN
    python main.py --mode=evaluate --config=configs/eval/shift.py --workdir=RUN --config.sets=imagenet_r,imagenet_c
    python main.py --mode=evaluate --config=configs/eval/shift.py --workdir=RUN --config.corruptions=on_the_fly
    python main.py --mode=evaluate --config=configs/eval/shift.py --workdir=RUN --config.sets=folder:PATH

The result is evaluations/shift.json of the run; a second one beside it needs --config.evaluation.name=NAME.

A run on ImageNet gets all sets that are there; those that are not are named, and listed in the result, with what they
are and how to get them; a set that was asked for by name must be there. All lie in one folder, `config.data.data_dir`,
under the names below, or are prepared there by tfds. Any other run gets its own evaluation images and corruptions of
them, made on the fly. `sets` also takes folders of class folders, and tfds data sets, with the classes of the run. Of a
folder's classes the net answers among those that are there; on a tfds data set it may answer any.

On ImageNet-R and -A a net answers among their 200 classes, as the sets' own evaluation does; `imagenet_r_1000way` and
`imagenet_a_1000way` let it answer any. mCE divides by AlexNet's errors, so that only ImageNet has one. The paper's
Figures 3 and 4 show ImageNet-C accuracy, -R and -Sketch; its authors resized the 224-pixel images of ImageNet-C to 256
before the central crop (`imagenet_c_crop=nofrost`), the set's own evaluation does not (`standard`).
"""

from ml_collections import ConfigDict, config_dict

from configs.eval import suite

_BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"
_V2 = "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main"
_SKETCH = "https://github.com/HaohanWang/ImageNet-Sketch"


def get_config():
    config = suite.make("shift", {})
    config.sets = ""  # names below, folder:PATH, tfds:NAME, with commas between them; "" = all that suit the run
    config.corruptions = ""  # files: ImageNet-C, or in shift.imagenet_c.folder what tools.corrupt wrote |
    # on_the_fly: of the run's own images | none; "" = files for ImageNet, otherwise on_the_fly; where sets are named,
    # none unless imagenet_c is among them
    config.corruption_names = ""  # with commas between them; "" = the 15 of mCE
    config.severities = (1, 2, 3, 4, 5)
    config.imagenet_c_crop = "standard"  # standard: no resize | nofrost: the run's own, to 256, as the authors did
    config.jpeg_quality = config_dict.placeholder(int)  # on the fly: JPEG round trip; 0 = none; None = 85 for ImageNet,
    # as in the published files, otherwise none
    config.frost_textures = ""  # on the fly: folder with published frost images 1 to 5; "" = made procedurally
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

    what, get: for people, what it is and where it comes from. folder: below `config.data.data_dir`, a tree of class
    folders, looked for first; builder: of tfds, "" = none, and the split there. count: images of the whole set, 0 =
    not known. label_set: what the net may answer, `evaluation/label_sets.py`. default: whether it is among `sets=""`.
    The geometry is the run's own, unless eval_resize says otherwise: short side before the central crop, 0 = no resize.
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
