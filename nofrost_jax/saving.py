"""The checkpoints of a run (orbax), saved in the background. A checkpoint is valid only with its hashes."""

import concurrent.futures
import contextlib
import functools
import json
import operator
import os
from collections.abc import Callable
from typing import Any

import jax

from nofrost_jax import digests, files, parallel
from nofrost_jax.digests import require_fit, shapes
from nofrost_jax.errors import UserError

META = os.path.join("meta", "metadata")  # orbax's file of the dict


class Checkpoints:
    """The folder `checkpoints/STEP/` of a run, with the items `variables`, `optimizer` and `meta`.

    A save goes on in the background. A reader (`writable=False`) never changes anything, even while the run is
    training.
    """

    def __init__(self, workdir: str, keep: int = 2, writable: bool = True) -> None:
        import orbax.checkpoint as ocp

        self._args, self._keep, self._writable = ocp.args, keep, writable
        self.directory = os.path.join(files.absolute(workdir), "checkpoints")
        ways = ocp.path.atomicity  # in a bucket nothing is renamed: a last file says that all of them are there
        base = ways.CommitFileTemporaryPath if files.is_url(workdir) else ways.AtomicRenameTemporaryPath
        commit, self._last = _committing(base, self._remove_old), ways.COMMIT_SUCCESS_FILE
        self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(), temporary_path_class=commit)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._saving: tuple[int, concurrent.futures.Future] | None = None
        self._saved: int | None = None
        if writable:
            unfinished = parallel.on_main(self._clear)
            for step in unfinished:
                parallel.say(f"checkpoint {step} was not saved completely; it is moved to checkpoints_damaged/")
            self._move_away(unfinished)

    @property
    def steps(self) -> list[int]:
        """Steps that have a folder, ascending."""
        return sorted(int(name) for name in files.names(self.directory) if name.isdecimal())

    def _folder(self, step: int) -> str:
        return os.path.join(self.directory, str(step))

    def _unfinished(self) -> list[int]:
        """[the newest step] if it has no hashes: it is being saved, or was when a kill came. Otherwise []."""
        return [step for step in self.steps[-1:] if not digests.are_there(self._folder(step))]

    def _clear(self) -> list[int]:
        """Makes the folder, and removes what killed saves and removals left in it; returns `_unfinished`."""
        files.make_folder(self.directory)
        left = [name for name in files.names(self.directory) if ".orbax-checkpoint-tmp" in name]
        if files.is_url(self.directory):  # there they have their last name from the first, but no last file
            begun = map(str, self._unfinished())
            left = [name for name in begun if not files.exists(os.path.join(self.directory, name, self._last))]
        for step in self.steps[:-1]:
            if not digests.are_there(self._folder(step)):
                parallel.say(f"checkpoint {step} was not removed completely; now it is")
                left.append(str(step))
        for name in left:
            files.remove_tree(os.path.join(self.directory, name))
        return self._unfinished()

    def save(self, step: int, items: dict[str, Any], meta: dict[str, Any]) -> None:
        """Saves {name: pytree} and a JSON-able dict, in the background, after the save before. All processes call it.

        The arrays may be donated afterwards: orbax copies them to the host first, and on a CPU, where it holds the
        arrays themselves, jax donates no array that is held.
        """
        self.wait()
        meta = {**meta, "shapes": {name: shapes(tree) for name, tree in items.items()}}
        saves = {name: self._args.StandardSave(parallel.to_global(tree)) for name, tree in items.items()}
        saves["meta"] = self._args.JsonSave(meta)
        with digests.quiet_if_it_fails():
            self._orbax.save(self._folder(step), args=self._args.Composite(**saves), force=True)
        self._saving = step, self._thread.submit(self._finish)

    def _finish(self) -> None:
        with digests.quiet_if_it_fails():
            self._orbax.wait_until_finished()

    def _remove_old(self) -> None:
        """Process 0 calls it when the newest checkpoint is whole and has its hashes. A kill may cut a removal short;
        what has lost its hashes is no checkpoint any more."""
        for old in self.steps[: -self._keep]:
            with contextlib.suppress(FileNotFoundError):
                files.remove(os.path.join(self._folder(old), digests.NAME))
            files.remove_tree(self._folder(old))

    def check(self) -> None:
        """Raises what has failed in the background."""
        if self._saving and self._saving[1].done():
            self.wait()

    def wait(self) -> None:
        """Returns when what is being saved is on disk, with its hashes; raises what fails."""
        if self._saving:
            (step, finished), self._saving = self._saving, None
            finished.result()
            self._saved = step

    def saved(self) -> int | None:
        """The newest step that is whole on disk. Waits for the one that is being saved, whose failure is not raised."""
        with contextlib.suppress(Exception):
            self.wait()
        return self._saved

    def amend(self, step: int, changes: dict[str, Any]) -> None:
        """Changes values in a checkpoint's dict."""
        if jax.process_index() == 0:
            meta = files.read_json(os.path.join(self._folder(step), META)) | changes
            digests.replace(self._folder(step), META, json.dumps(meta))
        parallel.wait_for_all(f"checkpoint {step} is amended")

    def restore(
        self, abstract: dict[str, Any], only: int | None = None
    ) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """(step, {name: pytree}, meta) of the newest valid checkpoint, or None. Says when it skips a damaged one; one
        that is being saved does not count yet. only: the step of the one that counts, if not all do.

        abstract: {name: pytree of ShapeDtypeStructs with shardings} of the wanted items, for any number and kind of
        devices. A checkpoint is damaged if a file is missing or has another hash; process 0 decides for all. A writer
        moves damaged checkpoints to `checkpoints_damaged/`: their steps are done again. Raises UserError if all are
        damaged, or one is of another net or optimizer.
        """
        damaged = []
        for step in parallel.on_main(lambda: sorted({*self.steps} - {*self._unfinished()}, reverse=True)):
            if only not in (None, step):
                continue
            meta, damage = parallel.on_main(functools.partial(self._examine, step, {*abstract, "meta"}))
            if damage:
                if parallel.on_main(functools.partial(self._is_outdated, step)):
                    return self.restore(abstract, only)
                parallel.say(f"checkpoint {step} is damaged ({damage}); trying the one before")
                damaged.append(step)
                continue
            for name, tree in abstract.items():
                what = f"{name} of checkpoint {step} in {self.directory}"
                require_fit(what, meta["shapes"].get(name, {}), shapes(tree))
            items = self._read(step, abstract)
            if parallel.on_main(functools.partial(operator.is_, items, None)):
                return self.restore(abstract, only)
            if items is None:
                raise RuntimeError(f"checkpoint {step} exists for process 0, but not here")
            if self._writable:
                self._move_away(damaged)
            self._saved = step
            return step, items, meta
        if damaged:
            raise UserError(
                f"no checkpoint in {self.directory} can be restored ({', '.join(map(str, damaged))} are damaged); "
                "start again in a new --workdir"
            )
        return None

    def _examine(self, step: int, items: set[str]) -> tuple[dict[str, Any] | None, str]:
        """(the dict that was saved, ""), or (None, the damage)."""
        folder = self._folder(step)
        if damage := digests.damage(folder, items):
            return None, damage
        meta = files.read_json(os.path.join(folder, META))
        return meta, "" if meta else f"{META} is missing"

    def _read(self, step: int, abstract: dict[str, Any]) -> dict[str, Any] | None:
        """{name: pytree}, or None if the checkpoint was removed meanwhile. All processes call it."""
        restores = {name: self._args.StandardRestore(tree) for name, tree in abstract.items()}
        try:
            return dict(self._orbax.restore(self._folder(step), args=self._args.Composite(**restores)).items())
        except Exception:  # not damage: its files have their hashes
            if not self._is_outdated(step):
                raise
            return None

    def _is_outdated(self, step: int) -> bool:
        """Whether a training has removed this checkpoint while it was read."""
        return step not in self.steps

    def _move_away(self, steps: list[int]) -> None:
        for step in steps:
            target = os.path.join(os.path.dirname(self.directory), "checkpoints_damaged", str(step))
            if jax.process_index() == 0:
                if not files.is_url(target):  # there it may have what a killed move has copied, and has removed here
                    files.remove_tree(target, missing_ok=True)
                files.make_folder(os.path.dirname(target))
                files.rename(self._folder(step), target)
        if steps:
            parallel.wait_for_all("damaged checkpoints are out of the way")

    def close(self) -> None:
        """Waits as `wait` does."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._orbax.close()


def _committing(base: type, then: Callable[[], None]) -> type:
    """orbax's way to put a whole checkpoint in its place, which then gets its hashes; process 0 alone does it, and the
    others wait. Last it calls `then`."""

    class Commit(base):
        async def finalize(self):
            await super().finalize()
            digests.write(os.fspath(self.get_final()))
            then()

    return Commit
