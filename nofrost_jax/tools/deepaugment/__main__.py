"""Makes the DeepAugment version of an image folder (Hendrycks et al., 2021), offline and once.

    python -m nofrost_jax.tools.deepaugment --source=folder:IMAGENET --output=DIR --network=both \\
        --weights=edsr_baseline_x4.pt,model_final.state
    python -m nofrost_jax.tools.deepaugment --source=folder:IMAGENET --output=LOOK --weights=random:0 --limit=8

IMAGENET/train/CLASS/NAME becomes DIR/NETWORK/train/CLASS/NAME, a JPEG file; the second command makes eight examples.
On several hosts give each its `--shard=i/n`; together they make the same files as one. After a stop, the same command
continues.

Exit codes: 0 done; 2 the command line or the data is wrong; 75 stopped by a signal: run it again.
"""

import argparse
import os

from nofrost_jax import errors
from nofrost_jax.augment.deepaugment import weights
from nofrost_jax.errors import UserError
from nofrost_jax.fields import check_seed
from nofrost_jax.tools.deepaugment import generate


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The checked options. Raises UserError for whatever is wrong."""
    parser = errors.Parser("tools.deepaugment", __doc__)
    parser.add_argument("--source", required=True, help="folder:PATH or PATH, with PATH/SPLIT/CLASS/image files")
    parser.add_argument("--split", default="train", help="folder of the classes below PATH")
    parser.add_argument("--output", required=True, help="folder for the distorted images")
    parser.add_argument("--network", default="both", help=", ".join(generate.NETWORKS))
    parser.add_argument("--weights", default="", help="files with commas (.pt, .state), or random:SEED")
    parser.add_argument("--seed", type=int, default=0, help="of the order and of every distortion")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="part I (from 0) of N of the work")
    parser.add_argument("--limit", type=int, default=0, help="number of images, of all shards together; 0 = all")
    parser.add_argument("--side", type=int, default=0, help="short side of the results; default: the original's, 512")
    parser.add_argument("--workers", type=int, default=4, help="threads that read and write files")
    options = parser.parse_args(arguments)
    if not options.output:
        raise UserError("--output is empty; give a folder for the distorted images")
    if options.network not in generate.NETWORKS:
        raise UserError(f"--network={options.network} is unknown; choose one of {', '.join(generate.NETWORKS)}")
    options.shard = _shard(options.shard)
    check_seed("--seed", options.seed)
    for name, least in {"limit": 0, "side": 0, "workers": 1}.items():
        if getattr(options, name) < least:
            raise UserError(f"--{name}={getattr(options, name)} must be {least} or more")
    if options.side and options.side < 16:
        raise UserError(f"--side={options.side} must be 16 pixels or more, or 0")
    return options


def _shard(text: str) -> tuple[int, int]:
    part, slash, count = text.partition("/")
    if not slash or not (part.isdecimal() and count.isdecimal()) or not int(part) < int(count):
        raise UserError(f"--shard={text} must be I/N with I from 0 to N - 1, e.g. --shard=0/8")
    return int(part), int(count)


def distortions(options: argparse.Namespace) -> list[generate.Distortion]:
    """A Distortion for each network. Raises UserError if data or weights are missing."""
    networks = generate.NETWORKS[options.network]
    params = weights.load(options.weights, tuple(name for name in networks if name != "noise2net"))
    root, files = generate.list_files(options.source, options.split)
    return [
        generate.Distortion(
            network=network,
            root=root,
            files=files,
            output=os.path.join(os.path.abspath(os.path.expanduser(options.output)), network, options.split),
            params=params.get(network, {}),
            label=options.weights,
            seed=options.seed,
            side=options.side,
        )
        for network in networks
    ]


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    with errors.exit_codes():
        options = parse(arguments)
        waiting = distortions(options)
        with errors.machine("the files written so far are complete"):
            for work in waiting:
                generate.generate(work, options.shard, options.limit, options.workers)
                print(f"written: {work.output}", flush=True)


if __name__ == "__main__":
    main()
