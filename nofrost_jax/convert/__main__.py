"""Weights in and out: an export that `load`, --mode=evaluate, start_from and autoattack take.

    python -m nofrost_jax.convert best_RA.pth exports/nofrost      # weights of PyTorch, or .safetensors
    python -m nofrost_jax.convert runs/digits exports/digits       # a run, a step of it, an export
    python -m nofrost_jax.convert runs/digits --push=OWNER/NAME    # to the Hugging Face hub

Writes model.safetensors, config.json and a model card, README.md. Exit codes: 0 done; 1 the machine failed; 2 there is
nothing to convert, it is refused, or the folder for the export has other content.
"""

import contextlib
import dataclasses
import json
import os
import tempfile

import nofrost_jax
from nofrost_jax import buckets, checkpoint, errors, fields, files, lock
from nofrost_jax.convert import card, hub
from nofrost_jax.convert.sources import Net, Setting, read
from nofrost_jax.errors import UserError
from nofrost_jax.weights import tensors


def export(net: Net, out: str) -> None:
    """Writes `OUT/model.safetensors` (float32 arrays by path), `OUT/config.json` and `OUT/README.md`.

    out: a new or empty folder, or an older export of the same net, which is replaced; its evaluations stay. Raises
    UserError if it cannot be written or has other content.
    """
    buckets.refuse(out, out)
    out = os.path.expanduser(out)
    if os.path.isdir(os.path.join(out, "checkpoints")):
        raise UserError(f"{out} is a training run; choose another folder for the export")
    _require_own(out, net)
    about = {name: value for name, value in net.provenance.items() if name not in ("source", "params_sha256")}
    about |= {"class_names": net.class_names, "written_by": f"nofrost_jax {nofrost_jax.__version__}"}
    about |= {"config_sha256": fields.deciding_sha256(json.loads(net.config_json))}
    with lock.hold(lock.place(out), "an export"):
        _require_own(out, net)  # again: another export may have finished meanwhile
        try:
            checkpoint.export(out, net.variables, net.config_json, about, _card(net))
        except OSError as error:
            raise errors.refused(f"{out} cannot be written", error, "choose another folder") from error


def _require_own(out: str, net: Net) -> None:
    """Raises UserError if the folder `out` has anything that an export of this net does not replace or keep."""
    names = sorted(os.listdir(out)) if os.path.isdir(out) else []
    names = [name for name in names if name != "lock" and not name.startswith(".export_")]
    names = [name for name in names if not files.is_temporary(name)]
    own = (*hub.FILES, "evaluations") if "config.json" in names else ()
    if others := [name for name in names if name not in own]:
        more = f" and {len(others) - 3} more" * (len(others) > 3)
        raise UserError(f"{out} holds more than an export: {', '.join(others[:3])}{more}; choose a new folder")
    if not names:
        return
    if checkpoint.read_config(out) != net.config:
        raise UserError(f"{out} has an export of another config; choose another folder, or remove it")
    try:
        _, about = tensors.read(os.path.join(out, tensors.NAME))
    except UserError:  # a damaged one is replaced
        return
    if about.get("file_sha256") != net.provenance.get("file_sha256"):
        raise UserError(f"{out} has an export of other weights; choose another folder, or remove it")


def _card(net: Net) -> str:
    """The net's card; an export without results keeps the one that it has."""
    path = os.path.join(net.folder, "README.md")
    is_export = net.folder and files.exists(os.path.join(net.folder, tensors.NAME))
    if is_export and files.exists(path) and not files.is_folder(os.path.join(net.folder, "evaluations")):
        return files.read(path).decode()
    return card.write(net)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))


def main(arguments: list[str] | None = None) -> None:
    parser = errors.Parser("convert", __doc__)
    parser.add_argument(
        "source", help="a .pth, .pt or .safetensors file, a run, RUN/checkpoints/STEP, an export, or hf://"
    )
    parser.add_argument("out", nargs="?", help="folder for the export")
    parser.add_argument("--push", default="", metavar="OWNER/NAME", help="upload the export to the Hugging Face hub")
    parser.add_argument("--private", action="store_true", help="make the repository a private one, if it is new")
    weights = parser.add_argument_group("for files of weights, which do not say it")
    weights.add_argument("--epsilon_255", type=float, help="radius of attacks, in pixel values: 8 on ImageNet")
    weights.add_argument("--image_size", type=int, help="side of the images, in pixels: 224 on ImageNet")
    weights.add_argument("--eval_resize", type=int, help="short side from which they are cropped: 256; 0: no resize")
    weights.add_argument("--mean", type=_numbers, help="of the normalization, e.g. 0.485,0.456,0.406")
    weights.add_argument("--std", type=_numbers, help="of the normalization, e.g. 0.229,0.224,0.225")
    with errors.exit_codes():
        options = parser.parse_args(arguments)
        if not (options.out or options.push):
            raise UserError("where to? give a folder for the export, or --push=OWNER/NAME")
        if options.push:
            hub.require(options.push)
        setting = Setting(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Setting)})
        net = read(options.source, setting)
        with contextlib.ExitStack() as stack:
            out = options.out or os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "export")
            export(net, out)
            _tell(net, options.source, out)
            if options.push:
                print(f"pushed: {hub.push(os.path.expanduser(out), options.push, options.private)}")


def _tell(net: Net, source: str, out: str) -> None:
    model, step = net.config["model"], net.provenance.get("step")
    what = source if step is None else f"step {step} of {source}"
    print(f"{what}: {model['name']}, {model['num_classes']} classes, {net.parameter_count:,} parameters")
    for line in net.notes:
        print(f"note: {line}")
    megabytes = os.path.getsize(os.path.join(os.path.expanduser(out), tensors.NAME)) / 1e6
    print(f"written: {out}/{tensors.NAME} ({megabytes:.2f} MB), config.json and README.md")


if __name__ == "__main__":
    main()
