"""How programs are compiled, and where they are kept."""

import warnings

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from nofrost_jax import compiled
from nofrost_jax.errors import UserError

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    jax.config.update("jax_compilation_cache_dir", None)
    with warnings.catch_warnings():
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_programs_are_kept_in_the_users_cache_folder(tmp_path):
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache/nofrost_jax/compiled")
    assert (tmp_path / "cache/nofrost_jax/compiled").is_dir()


def test_a_named_folder_wins_and_off_keeps_nothing(tmp_path):
    compiled.keep(str(tmp_path / "own"))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    compiled.keep("off")
    assert not jax.config.jax_enable_compilation_cache


def test_a_cut_file_is_compiled_again(tmp_path, recwarn):
    def run():
        compilation_cache.reset_cache()
        return jax.jit(lambda x: jnp.sin(x) + 3)(jnp.float32(1))

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    compiled.keep(str(tmp_path / "own"))
    first = run()
    files = list((tmp_path / "own").iterdir())
    for path in files:
        path.write_bytes(path.read_bytes()[:-20])
    assert files and run() == first and not recwarn.list


def test_jaxs_own_setting_stays(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "jax")


def test_several_processes_keep_none_by_themselves(monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_cannot_be_made_is_an_error_only_if_it_was_asked_for(tmp_path):
    (tmp_path / "cache").write_text("")
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir is None
    with pytest.raises(UserError, match=r"--compilation_cache=.*cache/own: .*off"):
        compiled.keep(str(tmp_path / "cache/own"))


def test_options_that_a_compiler_does_not_know_are_left_out():
    assert compiled.is_known("xla_backend_optimization_level", 1) and not compiled.is_known("xla_no_such_option", 1)
    assert "xla_backend_optimization_level" in compiled.options()
