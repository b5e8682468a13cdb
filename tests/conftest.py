"""Eight virtual CPU devices for the whole suite, and ways to start the program: in this process or as its own."""

import collections
import contextlib
import gc
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import warnings

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # where a test shares compiled programs, all of them
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # the nets are tiny: compiling is what the tests wait for

import jax
import pytest
from absl.testing import flagsaver

# A script's background ignores Ctrl-C, and nohup a hang-up; all that the tests start would do so, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# PyTorch's GPU builds bring triton, which aborts a process that has TensorFlow's LLVM in it as well; the oracles do
# without it.
sys.modules.setdefault("triton", None)

ROOT = pathlib.Path(__file__).parents[1]
Outcome = collections.namedtuple("Outcome", "returncode stdout stderr")
CACHES = tempfile.TemporaryDirectory()  # of started processes, instead of the user's

MEMORY_MAPS = pathlib.Path("/proc/self/maps")
MOST_MAPS = 15_000  # every compiled program has some; Linux allows a process 65,530, and LLVM crashes at the next

TINY = {  # A run of seconds: 15 steps in 3 epochs; logs, saves and evaluations at steps that do not coincide.
    "model.stage_sizes": (1,),
    "model.width": 0.0625,
    "model.bn_group_size": "global",
    "batch_size": 256,
    "epochs": 3,
    "attack.steps": 2,
    "evaluation.every_epochs": 1,
    "evaluation.only": "pgd_20",
    "evaluation.attacks.pgd_20.steps": 2,
    "checkpoint.every_steps": 4,
    "log.every_steps": 3,
    "log.tensorboard": False,
}


@pytest.fixture(autouse=True, scope="module")
def few_compiled_programs():
    """Forgets them between two files once there are many."""
    yield
    if MEMORY_MAPS.exists() and len(MEMORY_MAPS.read_bytes().splitlines()) > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


def overrides(fields):
    """{field: value} as arguments of main.py."""
    return [f"--config.{field}={value}" for field, value in fields.items()]


def tiny_args(workdir, row="sat", **fields):
    """Arguments of a tiny run of a row of `digits.py`; fields: with "__" for the dot, e.g. `attack__steps=1`."""
    changed = TINY | {name.replace("__", "."): value for name, value in fields.items()}
    return [f"--config=configs/digits.py:{row}", f"--workdir={workdir}", *overrides(changed)]


def tiny_config(row="sat", **fields):
    """The config of a tiny run."""
    from configs import digits

    config = digits.get_config(row)
    changed = TINY | {name.replace("__", "."): value for name, value in fields.items()}
    config.update_from_flattened_dict(changed)
    return config


def saved_with(config):
    """What a training saves beside its arrays, of step 7."""
    from nofrost_jax import fields

    return {
        "step": 7,
        "sums": {},
        "evaluation_due": False,
        "training_set": {},
        "metrics": {},
        **fields.identity(config),
    }


def environment(devices=1, **variables):
    """This process's environment with another number of virtual devices."""
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"])
    flags = f"{flags} --xla_force_host_platform_device_count={devices}".strip()
    return {**os.environ, "XLA_FLAGS": flags, "XDG_CACHE_HOME": CACHES.name, **variables}


def start(*command, devices=1, **variables):
    """A Popen of `python COMMAND` in the repository's root, as a user would start it."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=environment(devices, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, timeout=300):
    """Waits for a started process; its Outcome."""
    with process:  # closes its pipes, also where it does not end in time
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return Outcome(process.returncode, out, err)


def run_main(*args, devices=1, timeout=300, **variables):
    """`python main.py ARGS` as its own process, to its end; variables go into its environment."""
    return finish(start("main.py", *args, devices=devices, **variables), timeout)


@pytest.fixture
def cli(capfd, monkeypatch):
    """`main.py` in this process: `cli(*args)` parses and runs a command line and returns its Outcome, soon."""
    import main
    from nofrost_jax import compiled

    keep = compiled.keep
    monkeypatch.setattr(compiled, "keep", lambda choice: choice and keep(choice))  # the default is for processes

    def call(*args):
        argv = ["main.py", *map(str, args)]
        monkeypatch.setattr(sys, "argv", argv)
        monkeypatch.chdir(ROOT)
        capfd.readouterr()
        code = 0
        with flagsaver.flagsaver(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the load_module", DeprecationWarning)  # ml_collections reads files by it
            try:
                main.parse(argv)
                main.main(argv[:1])
            except SystemExit as stop:
                code = stop.code
        return Outcome(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def compilation_cache(tmp_path_factory):
    """A folder where several runs of one program find it compiled."""
    return tmp_path_factory.mktemp("compiled")


@contextlib.contextmanager
def sharing_compiled(folder):
    """Lets runs in this process share their compiled programs through a folder."""
    from jax.experimental.compilation_cache import compilation_cache as cache

    old = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(folder))
    cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", old)
        cache.reset_cache()


@pytest.fixture
def compile_once(compilation_cache):
    """A test's runs find compiled what an earlier one left in the session's folder."""
    with sharing_compiled(compilation_cache):
        yield


@pytest.fixture(scope="session")
def _stand_in():
    """One stand-in for Google Cloud Storage, which this process and those that it starts take for the real one."""
    from tests.bucket import serving

    with serving() as server, pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        pytest.importorskip("gcsfs")
        yield server


@pytest.fixture
def bucket(_stand_in):
    """The stand-in, empty; its bucket is gs://bucket."""
    yield _stand_in.reset()
    _stand_in.reset()
