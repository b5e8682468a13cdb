"""The paper's Section 4.1, field by field. Every other config is a short delta over this one.

Comments say where the paper and the authors' code differ, and where the paper is silent. `recipe` fills the fields that
are placeholders: "paper" leaves out what the paper does not mention, "authors" does what the authors' code does. That
code is PGDAT.py, and CRT_TDAT.py for NoFrost*, of github.com/amazon-science/normalizer-free-robust-training at commit
89cd8c5. A field that is set keeps its value under both.

| field                      | paper | authors     | their code                                                        |
|----------------------------|-------|-------------|-------------------------------------------------------------------|
| label_smoothing            | 0     | 0.1         | PGDAT.py:41, :181, in every training loss, in no attack           |
| model.dropout              | 0     | 0.25        | PGDAT.py:43, :150                                                 |
| model.drop_path            | 0     | 0.1         | PGDAT.py:44, :151                                                 |
| optimizer.nesterov         | False | True        | PGDAT.py:171                                                      |
| model.bn_running           | mean  | first       | PGDAT.py:155, no broadcast of buffers, and rank 0 saves (:278)    |
| method.pgdat_clean_forward | False | True        | PGDAT.py:218, whatever lambda is; FAT has another code: False     |
| checkpoint.select          | last  | best_ra_val | PGDAT.py:283-342 (best_RA.pth); without adversarial images        |
|                            |       | best_sa_val | best_SA.pth (:336-339 skip the other)                             |

The ImageNet configs of NoFrost* also have the next table. So have those of Combine, NoFrost* on batch norm: this is
inferred from the nets that the script takes (:32).

| field                      | paper | authors | their code                                                            |
|----------------------------|-------|---------|-----------------------------------------------------------------------|
| method.terms (NoFrost*)    | paper | authors | CRT_TDAT.py:247, a quarter each                                       |
| deepaugment.sources        | both  | edsr    | utils/crt_dataloader.py: indices of one epoch end before CAE's images |
| deepaugment.mode           | noise2net | files | CRT_TDAT.py:135-136; paper: files too, but they must be there       |
| epochs                     | 90    | 30      | CRT_TDAT.py:34                                                        |
| batch_size                 | 256   | 80      | CRT_TDAT.py:39, :123-125: 255 over 8 GPUs over 3 streams is 10 a GPU  |
| optimizer.learning_rate    | 0.1   | 0.0996  | CRT_TDAT.py:167: 0.1 x 255 / 256, with learning_rate_batch=0          |
| model.bn_group_size        | 32    | 10      | the images of a GPU                                                   |
| evaluation.every_epochs    | 10    | 7       | CRT_TDAT.py:286, of the looks for best_ra_val                         |

The command line sets the steps of their attack. Their README has 10 for both scripts, as in the paper.
"""

from ml_collections import ConfigDict, config_dict

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def get_config(arg=""):
    """The paper's setting on ImageNet. `arg` is "" or "runlocal" (`with_arg`)."""
    config = ConfigDict()
    config.seed = 0  # paper and authors: no seed stated or set
    config.recipe = "paper"  # "paper" | "authors", see the tables above
    config.start_from = ""  # folder of a run or an export to take the first parameters from; "" = random ones
    config.batch_size = 256  # clean images in a step, over all devices; adversarial images are added to these
    config.accumulate = 1  # micro-batches into which each device cuts its images of a step; more need less memory. A
    # step stays the same, up to summation order. With batch norm a group must fit into a micro-batch; authors: 1
    config.epochs = 90
    config.label_smoothing = config_dict.placeholder(float)  # in the training loss only, never in an attack
    config.matmul_precision = "default"  # of products and convolutions in training: default (the device's own: TF32 on
    # NVIDIA GPUs since Ampere, bfloat16 on TPUs, float32 on CPUs) | high | highest (float32); authors: V100s, float32

    config.model = ConfigDict()
    config.model.name = "nf_resnet50"  # nf_resnet26 | nf_resnet50 | resnet26 | resnet50 | wide_resnet50_2
    config.model.num_classes = 1000
    config.model.norm = "bn"  # of the resnets: bn | mbn | in; NF nets have none
    config.model.stem = "imagenet"  # imagenet: 7x7 stride 2 and max pool | small: 3x3, for images of 8 to 64 pixels
    config.model.width = 1.0  # multiplies every channel count
    config.model.stage_sizes = ()  # blocks in each stage; () = the net's own
    config.model.dtype = "float32"  # compute type: float32 | bfloat16; parameters are always float32
    config.model.remat = "none"  # what the backward pass recomputes, for less memory: none | convolutions (keeps their
    # outputs, for next to no work) | blocks (keeps the blocks' inputs, for a forward pass more); never in an attack
    config.model.dropout = config_dict.placeholder(float)  # before the classifier
    config.model.drop_path = config_dict.placeholder(float)  # of the last block; it grows linearly with depth
    config.model.bn_group_size = "32"  # images normalized together (authors: 8 GPUs x 32), or "global"
    config.model.bn_running = config_dict.placeholder(str)  # running statistics of the groups: mean | first

    config.method = ConfigDict()
    config.method.name = "at"  # standard | at | trades | fat | trades_fat | fast | free | augmented
    config.method.adversarial_weight = 0.5  # at, fat: lambda of Equation 1: 0 ST, 1 PGDAT and FAT, 0.5 the others
    config.method.pgdat_clean_forward = config_dict.placeholder(bool)  # at: clean images pass in train mode too
    # if lambda is 1, which only changes BN's statistics
    config.method.sum_losses = False  # at: L(clean) + L(adversarial), as in AdvProp's code; paper: the mean of
    # Equation 1, silent on MBNAT's lambda
    config.method.beta = 1.0  # trades*: weight of the KL term; paper: 1; TRADES's authors' code: 6 on CIFAR-10
    config.method.trades_forwards = 2  # trades*: forwards in train mode; their code: 3 (clean, adversarial, clean)
    config.method.tau_epochs = ()  # fat, trades_fat: attack.tau grows by one after each of these; paper silent, fixed
    # here; FAT's authors' code: tau 0 and (50, 90) of 120 epochs, for TRADES-FAT (30, 50, 70) of 85
    config.method.replays = 4  # free: how often each batch is trained on (m); paper silent; 4 as in FreeAT. The row
    # freeat divides the epochs by 4. If you change replays or epochs on the command line, divide them yourself

    config.method.terms = config_dict.placeholder(str)  # augmented: whose losses are averaged: paper (Equation 2:
    # clean, DeepAugment or TDA by a coin for each image, adversarial) | authors (a quarter each, DeepAugment by EDSR
    # alone) | combine (a quarter each) | deepaugment (clean and DeepAugment) | tda; paper silent on both
    config.method.tda_blur = 0.0  # blurs half of TDA's images: greatest sigma in pixels; paper and authors: 0 (none);
    # Hermann et al. (2020) blur; SimCLR's blur has 2
    config.method.tda_noise = 0.0  # Gaussian noise in half of TDA's images: greatest deviation, as a share of the
    # range; paper and authors: 0 (none); Hermann et al. (2020) add noise

    config.deepaugment = ConfigDict()
    config.deepaugment.mode = "noise2net"  # where distorted images come from: noise2net (random nets on the device, no
    # weights needed) | files (made beforehand, as paper and authors) | on_device (EDSR and CAE distort the crops)
    config.deepaugment.folders = ()  # files: ("DIR/edsr", "DIR/cae"), EDSR's and CAE's images in this order, relative
    # to data.data_dir; layout and names are those of the data, train/CLASS/FILE, or of the training split, CLASS/FILE;
    # extensions may differ
    config.deepaugment.sources = config_dict.placeholder(tuple)  # files, on_device: each image takes one of these;
    # ("edsr", "cae") as the paper implies; with method.terms=authors ("edsr",): their code never reaches CAE's
    config.deepaugment.weights = ""  # on_device: the files of the nets, separated by a comma, or random:SEED
    config.deepaugment.group = 16  # on_device: images that share a set of distorted weights; original: 20 on average
    config.deepaugment.maximum = 0.75  # noise2net: greatest epsilon in x + epsilon * net(x); its authors' value

    config.attack = ConfigDict()
    config.attack.name = "pgd"  # the training attack; its other fields are below or in configs/methods.py
    config.attack.norm = "linf"  # linf | l2 (pgd, pgd_targeted and cw only)
    config.attack.epsilon_255 = 8.0  # radius in pixel values: linf 0 to 255; l2 any length, 765 is 3.0 on [0, 1]
    config.attack.steps = 10  # authors: 10 in the README, 7 as default in the code
    config.attack.step_rule = (
        "nofrost"  # paper silent; authors: min(1.25 epsilon, epsilon + 4) / steps, here 1 pixel value; TRADES's code:
        # fixed:0.765 (.003), FAT's code: fixed:1.785 (.007), both at radius 7.905 (.031)
    )

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.1
    config.optimizer.learning_rate_batch = 256  # the rate is multiplied by batch_size over this; 0 = it is not
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = config_dict.placeholder(bool)
    config.optimizer.weight_decay = 5e-5
    config.optimizer.decay_gains_and_biases = True  # authors: every parameter decays; False: vectors do not
    config.optimizer.schedule = "cosine_epochs"  # updated each epoch, as the authors | cosine (each step) | constant |
    # points (FastAT's) | decay (FreeAT's)
    config.optimizer.point_epochs = (0.0,)  # points: ascending epochs at which the rate is ...
    config.optimizer.point_shares = (1.0,)  # ... these shares of the peak, with straight lines between
    config.optimizer.decay_epochs = 8  # decay: the rate falls to a tenth each time so many epochs pass
    config.optimizer.warmup_epochs = 0.0  # linear warm-up; the cosine then takes the remaining epochs
    config.optimizer.agc = (
        0.0  # threshold of adaptive gradient clipping (Brock et al., 2021b); paper and authors: 0 (off)
    )

    config.data = ConfigDict()
    config.data.source = "tfds:imagenet2012"  # digits | fake | tfds:NAME | folder:PATH
    config.data.data_dir = ""  # where tfds has its prepared data; "" = its default
    config.data.train_split = "train"
    config.data.eval_split = "validation"  # or "holdout": the training images that the next field holds out
    config.data.holdout = 0  # number of training images to hold out, evenly spaced, for choosing checkpoints and rates
    config.data.image_size = 224
    config.data.eval_resize = 256  # short side before the central crop; 0 = no resize
    config.data.eval_pad = False  # images smaller than the crop: True adds black borders, False refuses them
    config.data.train_resize = 0  # short side before random_resized_crop, bicubic, as in FastAT's code; 0 = no resize
    config.data.augmentation = (
        "random_resized_crop"  # (with flip) | pad_crop_flip | none; paper silent, this is the authors'
    )
    config.data.crop_scale = (0.08, 1.0)
    config.data.views = config_dict.placeholder(tuple)  # of each training image; follows from the method
    config.data.tda_crop_scale = (0.64, 1.0)  # crop_scale for TDA; paper: "less aggressive", authors: this; no effect
    # with pad_crop_flip and none, where TDA only changes colours
    config.data.mean = IMAGENET_MEAN  # of images in [0, 1]; applied inside the classifier
    config.data.std = IMAGENET_STD
    config.data.workers = 0  # decoding threads; 0 = one for each core
    config.data.decode = "exact"  # training images: exact (Pillow, as torchvision) | fast (within 2 of 255; needs
    # simplejpeg and cykooz-resizer)
    config.data.on_error = "raise"  # unreadable training images: raise | skip (the next one takes its place; counted)
    config.data.other_files = "raise"  # files other than images in the class folders of an evaluation: raise | skip
    config.data.shuffle_buffer = 16384  # in encoded images; for TFRecord files only, which are read in sequence
    config.data.fake_train = 1_281_167
    config.data.fake_eval = 50_000

    config.evaluation = ConfigDict()
    config.evaluation.name = "final"  # of the result file, evaluations/NAME.json
    config.evaluation.every_epochs = 10  # during training; 0 = only at the end
    config.evaluation.while_training = ("pgd_20",)  # attacks that also run during training; the others run at the end
    config.evaluation.batch_size = 256  # images attacked together, over all devices
    config.evaluation.chunk_size = 2048  # images in memory at once; their survivors are gathered into full batches
    config.evaluation.limit = 0  # number of images, evenly over the classes, the same from every source; 0 = all
    config.evaluation.ids = ""  # text file that names the images to evaluate, one a line: val/WNID/NAME.JPEG,
    # NAME.JPEG or the place in the split, from 0; "" = no list
    config.evaluation.classes = 0  # only images of this many first classes; 0 = all
    config.evaluation.attack_dtype = "float32"  # of the net in attacks: float32 | bfloat16; verdicts are always float32
    config.evaluation.save_images = 0  # number of first images whose adversarial images are kept and drawn as a grid
    config.evaluation.mbn_gamma = 1.0  # weight of the adversarial branch of an MBN net, 0 to 1; Xie & Yuille (2020): 1
    config.evaluation.mbn_interpolation = "logits"  # where branches mix: logits (the paper's default) | all | random
    config.evaluation.mbn_p = 0.5  # random: share of layers that mix; the paper's "random p%" (Figure 5)
    config.evaluation.mbn_seed = 0  # random: decides which layers; paper silent
    config.evaluation.mbn_gammas = ()  # evaluate mode only: a sweep over these (Figures 2, 5); () = only mbn_gamma
    config.evaluation.attacks = ConfigDict({"pgd_20": pgd_20()})
    config.evaluation.properties = properties(measure=False)  # margin, thickness, smoothness (Table 5)
    config.evaluation.only = ""  # run only these attacks, names separated by commas; "" = all

    config.checkpoint = ConfigDict({"every_steps": 2500, "keep": 2})
    config.checkpoint.select = config_dict.placeholder(str)  # paper silent. last | best_ra_val: the most robust on the
    # evaluation split itself (results have a flag) | best_sa_val: the most accurate there | best_ra_holdout: the most
    # robust on the images of data.holdout. nofrost_jax/selection.py says when, and by which attack
    config.log = ConfigDict({"every_steps": 50, "tensorboard": True})
    return with_arg(config, arg)


def pgd_20(step_rule="nofrost", protocol="paper"):
    """The paper's PGD column: 20 steps, at the radius of the training attack."""
    return attack("pgd", protocol, steps=20, step_rule=step_rule)


def attack(name, protocol, epsilon_255=None, norm="linf", **options):
    """An entry of `evaluation.attacks`.

    name: of an attack, or aa_fast_20, aa_standard, aa_few_classes (for 2 and 3 classes), or cascade (with `members`).
    protocol: whose numbers to compare it with. epsilon_255: radius in pixel values; None: that of the training attack,
    in its norm. norm: of a given radius, linf | l2 (pgd, pgd_targeted and cw only). limit: attack only so many images,
    spread evenly. count: right (default): images that are wrong when clean are not attacked and not robust; all: all
    images are attacked, and those right afterwards count, as in the authors' code (this only matters for targeted
    attacks). Other options are fields of the attack (nofrost_jax/attacks).
    """
    entry = ConfigDict({"name": name, "protocol": protocol, "norm": norm, **options})
    entry.epsilon_255 = config_dict.placeholder(float)
    entry.epsilon_255 = epsilon_255
    return entry


def properties(measure):
    """`evaluation.properties`: whether to measure decision margin, boundary thickness and model smoothness, and how."""
    return ConfigDict(
        {
            "measure": measure,
            "steps": 20,  # of both attacks, as in the paper; smoothness: untargeted PGD, within the training radius
            "step_rule": "nofrost",  # of the smoothness's; paper silent
            "ball": "l2",  # of the thickness's targeted attack: l2, with the next two | training: the training attack's
            # radius and norm, and step_rule; paper silent, l2 with radius 5 and step 1 is Yang et al.'s (2020)
            "radius": 5.0,  # l2: in normalized units
            "step": 1.0,  # l2: in normalized units
            "points": 128,  # on the segment from the image to the adversarial one; paper silent, as Yang et al.
            "alpha": 0.0,  # paper: 0 and 0.75
            "beta": 0.75,
        }
    )


def with_arg(config, arg):
    """Applies what follows the file name, `configs/x.py:ARG`: words separated by commas.

    `epsilon_255=4` sets the radius of training and evaluation (Table 7: 2 and 4). `files=DIR`, for rows that train on
    DeepAugment's images, takes those in DIR/edsr and DIR/cae in place of Noise2Net's, and ImageNet in DIR/imagenet.
    `runlocal` calls the function below.
    """
    for word in filter(None, arg.split(",")):
        name, _, value = word.partition("=")
        if word == "runlocal":
            config = runlocal(config)
        elif name == "epsilon_255" and _is_number(value):
            config.attack.epsilon_255 = float(value)
        elif name == "files" and value and _distorts(config):
            config.deepaugment.mode, config.deepaugment.folders = "files", ("edsr", "cae")
            config.data.data_dir = value
            if config.data.source == "tfds:imagenet2012":
                config.data.source = "folder:imagenet"
        else:
            more = ", files=DIR" if _distorts(config) else ""
            raise ValueError(
                f"unknown argument {word!r} after the config file; this one takes: runlocal, epsilon_255=NUMBER{more}"
            )
    return config


def _distorts(config):
    """Whether the method trains on DeepAugment's images."""
    return config.method.name == "augmented" and config.method.terms != "tda"


def _is_number(text):
    try:
        return bool(text) and float(text) >= 0
    except ValueError:
        return False


def runlocal(config):
    """The same code in miniature, for any CPU: fake 32-pixel images, an eighth of the width, two epochs of 8 steps."""
    config.data.source = "fake"
    config.data.fake_train, config.data.fake_eval = 128, 64
    config.deepaugment.mode = "noise2net"
    config.data.image_size, config.data.eval_resize = 32, 36
    config.model.width, config.model.num_classes = 0.125, 10
    config.model.bn_group_size = "8"
    config.batch_size, config.epochs = 16, 2
    config.evaluation.batch_size, config.evaluation.every_epochs = 32, 1
    config.checkpoint.every_steps, config.log.every_steps = 8, 4
    return config
