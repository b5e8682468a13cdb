"""How programs are compiled, and where they are kept between runs."""

import functools
import os
import warnings
from typing import Any

import jax

from nofrost_jax.errors import UserError

OFF = "off"
LEAST_SECONDS = 0.1  # programs that compile faster are not kept
_OPTIONS: Any = jax.config  # its attributes are made at run time


def keep(choice: str = "") -> None:
    """Keeps compiled programs in the folder `choice`; "off": nowhere.

    "": in `user_folder()`, unless jax's own settings name a folder (JAX_COMPILATION_CACHE_DIR), there are several
    processes, which would write the same files at once, or the folder cannot be made. jax's key of a program covers
    the versions of jax and XLA, XLA's flags and the type of the processor. Raises UserError for a folder that was
    asked for and cannot be made.
    """
    if choice == OFF:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if not choice and (_OPTIONS.jax_compilation_cache_dir or jax.distributed.is_initialized()):
        return
    folder = os.path.expanduser(choice) if choice else user_folder()
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        if choice:
            raise UserError(f"--compilation_cache={choice}: {error.strerror}; name another folder, or off") from error
        return
    # A file cut by a kill, or a full disk: jax compiles the program, and all is as without the folder.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", folder)
    if _OPTIONS.jax_persistent_cache_min_compile_time_secs == 1:  # jax's default; a setting of the user's stays
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)


def options() -> dict[str, Any]:
    """Options of XLA's compiler for the programs of an evaluation.

    On a CPU their time is in products and convolutions, which come compiled. Without MLIR's emitters of fusions (in jax
    0.10; later versions have no choice), and with LLVM at level 1 instead of 3, they are as fast and take about
    half the time to compile (docs/performance.md). The last bits may differ: the training step has no options, because
    a mapped step takes none, and one process must compute what several do.
    """
    wanted = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}
    return {name: value for name, value in wanted.items() if jax.default_backend() == "cpu" and is_known(name, value)}


@functools.cache
def is_known(name: str, value: Any) -> bool:
    """Whether this version of XLA's compiler has an option."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True


def user_folder() -> str:
    """The default folder: in XDG_CACHE_HOME, or ~/.cache."""
    return os.path.join(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"), "nofrost_jax", "compiled")
