"""Trains, evaluates or describes a robust image classifier: flags only, the work is in nofrost_jax.

    python main.py --config=configs/digits.py --workdir=runs/digits
    python main.py --mode=evaluate --workdir=runs/digits
    python main.py --mode=dry_run --config=configs/nofrost_r50.py --device=8xh100

Exit codes: 0 done; 1 the machine failed; 2 the config or the data is wrong; 3 a dry run found something missing;
75 stopped by a signal, state saved: run the same command again.
"""

import os
import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is something to save: no traceback of the imports
from absl import app, flags, logging
from ml_collections import config_flags

from configs import common
from nofrost_jax import command_line, errors

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; --config.FIELD=VALUE changes it.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "dry_run"], "What to do.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run: checkpoints, metrics, evaluations.")
_OUTPUT = flags.DEFINE_string("output", "", "With --mode=evaluate: folder for the results, instead of --workdir.")
_FORCE = flags.DEFINE_bool("force", False, "Go on from a checkpoint of another config; rename another result.")
_DEVICE = flags.DEFINE_string("device", "", "With --mode=dry_run: the cost on h100, 8xh100, 2x8xh100 (hosts), ...")
_CACHE = flags.DEFINE_string("compilation_cache", "", "Folder of compiled programs; off: none.")
_COORDINATOR = flags.DEFINE_string("coordinator_address", "", "HOST:PORT of process 0, or auto on a TPU pod.")
_PROCESSES = flags.DEFINE_integer("num_processes", 1, "With --coordinator_address: how many processes.")
_PROCESS = flags.DEFINE_integer("process_id", 0, "With --coordinator_address: which one this is.")
_JOIN = flags.DEFINE_integer("join_timeout", 300, "With --coordinator_address: seconds for all processes to come.")


def parse(argv):
    logging.set_verbosity(logging.FATAL)  # orbax tells every detail of every file, and of what it raises as well
    with errors.exit_codes():
        command_line.parse(argv, _CONFIG, common.get_config())


def main(_):
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}
    from nofrost_jax import compiled, dry_run, evaluate, processes, train

    place = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value, _JOIN.value)
    with errors.exit_codes(processes.leave), processes.joined(*place, each_alone=_MODE.value != "train"):
        compiled.keep(_CACHE.value)
        if _DEVICE.value and _MODE.value != "dry_run":
            raise errors.UserError("--device is for the cost on paper; give --mode=dry_run as well, or leave it out")
        workdir, output = map(os.path.expanduser, (_WORKDIR.value, _OUTPUT.value))
        if _MODE.value == "train":
            train.train(_CONFIG.value, workdir, _FORCE.value, output)
        elif _MODE.value == "evaluate":
            evaluate.evaluate(_CONFIG.value, workdir, output, _FORCE.value)
        else:
            dry_run.dry_run(_CONFIG.value, workdir, output, _DEVICE.value)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
