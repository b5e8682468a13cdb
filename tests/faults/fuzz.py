"""Damages each file of a run's folder, and looks at what every reader of the folder then says.

A reader must give what it gives of the whole folder, or name the file that is damaged (or the folder that it is in, or
what it lacks), in one line. It must never give another result in silence, nor end with a traceback.
"""

import collections
import contextlib
import dataclasses
import io
import pathlib
import random
import re
import shutil
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax

import nofrost_jax
from nofrost_jax import digests, errors, evaluate, fields, train
from nofrost_jax.convert import __main__ as convert
from nofrost_jax.report.__main__ import report
from tests.conftest import tiny_config
from tests.resume.helpers import contents, results_of

FIELDS = {"checkpoint__select": "best_ra_val", "data__validation": 200, "evaluation__batch_size": 8}
FIELDS |= {"evaluation__chunk_size": 16, "evaluation__limit": 48}


def cut(content: bytes, _: random.Random) -> bytes:
    """Its first half."""
    return content[: len(content) // 2]


def empty(_: bytes, __: random.Random) -> bytes:
    """Nothing: as after a crash of a file system that had only the name."""
    return b""


def flip(content: bytes, chance: random.Random) -> bytes:
    """One bit at a random place."""
    place, bit = chance.randrange(len(content)), chance.randrange(8)
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


VERDICTS = ("equal", "told", "silent", "traceback", "many lines")
RIGHT = VERDICTS[:2]
NOTICES = ("error: ", "note: ", "not used: ", "checkpoint ")  # how a line that tells of damage begins
DAMAGES = {"cut": cut, "empty": empty, "flip": flip, "lost": None}


@dataclasses.dataclass(frozen=True)
class Said:
    """What a reader did. code: its exit code, None after a traceback; found: what it gives; text: all that it said."""

    code: int | None
    found: Any
    text: str


def again(folder: pathlib.Path) -> Any:
    """The same command once more. Of a finished run it reads the last checkpoint alone."""
    train.train(tiny_config(**FIELDS), str(folder))
    return contents(folder, count=1)


def evaluated(folder: pathlib.Path) -> Any:
    """`--mode=evaluate`: from the outcomes that are there."""
    evaluate.evaluate(None, str(folder))
    return results_of(folder)


def loaded(folder: pathlib.Path) -> Any:
    """`nofrost_jax.load`."""
    classifier = nofrost_jax.load(folder)
    return digests.tree_sha256(classifier.variables), fields.deciding_part(classifier.config), classifier.class_names


def reported(folder: pathlib.Path) -> Any:
    """`nofrost_jax.report`: its tables."""
    out = folder.parent / "report"
    shutil.rmtree(out, ignore_errors=True)
    report(str(folder), str(out))
    tables = {path.name: path.read_text() for path in sorted((out / "tables").iterdir())}
    return {
        name: re.sub(r"python main.py .*", "", text) for name, text in tables.items()
    }  # where a run was is no result


READERS: dict[str, tuple[Callable[[pathlib.Path], Any], ...]] = {
    "unfinished": (again,),
    "finished": (loaded, reported, evaluated, again),
    "exported": (loaded,),
}


def listen(reader: Callable[[pathlib.Path], Any], folder: pathlib.Path) -> Said:
    """What a reader does with a folder."""
    said, codes, found = io.StringIO(), [0], None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            with errors.exit_codes(codes.append):
                found = reader(folder)
        except Exception:
            return Said(None, None, f"{said.getvalue()}\n{traceback.format_exc()}")
    return Said(codes[-1], found, said.getvalue())


def judge(said: Said, whole: Said, path: pathlib.Path) -> str:
    """One of VERDICTS. path: of the damaged file, below the run's folder."""
    if said.code is None:
        return "traceback"
    known = set(whole.text.splitlines())
    lines = [line for line in said.text.splitlines() if line not in known]
    refusals = [line for line in lines if line.startswith("error: ")]
    if said.code and len(refusals) != 1:
        return "many lines"
    if not said.code and said.found == whole.found:
        return "equal"
    about = [line for line in lines if line.startswith(NOTICES) and any(name in line for name in names_of(path))]
    return "told" if about else "silent"


def names_of(path: pathlib.Path) -> list[str]:
    """How a line may name a damaged file: by its path, or as the checkpoint or the selection that it is part of; or
    what a folder lacks without its only result."""
    step = [f"checkpoint {path.parts[1]} ", f"({path.parts[1]} are damaged)"] if path.parts[0] == "checkpoints" else []
    others = {"best": "/best", "evaluations": "holds no result files"}
    return [str(path), *step, *([others[path.parts[0]]] if path.parts[0] in others else [])]


def states(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Folders of one run: "finished", "exported", and "unfinished" as a kill in its last epoch leaves it."""
    folder = root / "finished"
    train.train(tiny_config(**FIELDS), str(folder))
    unfinished = pathlib.Path(shutil.copytree(folder, root / "unfinished"))
    shutil.rmtree(unfinished / "checkpoints/15")
    for path in (unfinished / "evaluations").glob("*.*"):
        path.unlink()
    for path in sorted((unfinished / "evaluations/outcomes").rglob("*.npz"))[1::2]:
        path.unlink()
    convert.main([str(folder), str(root / "exported")])
    return {"finished": folder, "unfinished": unfinished, "exported": root / "exported"}


def trials(state: pathlib.Path, flips: int) -> Iterator[tuple[pathlib.Path, str, int]]:
    """(file below the folder, damage, number) of all that is tried."""
    for path in sorted(path.relative_to(state) for path in state.rglob("*") if path.is_file()):
        for name in DAMAGES:
            for number in range(flips if name == "flip" and (state / path).stat().st_size else 1):
                yield path, name, number


def damage(path: pathlib.Path, name: str, number: int) -> bool:
    """Damages a file; whether it is another file now."""
    if name == "lost":
        path.unlink()
        return True
    old = path.read_bytes()
    new = DAMAGES[name](old, random.Random(f"{path.name} {number}")) if old else old
    path.write_bytes(new)
    return new != old


def fuzz(
    root: pathlib.Path, flips: int, log: Callable[[str], None], among: Callable[[pathlib.Path], bool] = lambda _: True
) -> dict[str, collections.Counter]:
    """{"STATE, READER": {verdict: how often}} over all damages of all files, or of those `among` them. log: is told of
    every wrong verdict."""
    counts = {}
    for state, folder in states(root).items():
        for reader in READERS[state]:
            copy, found = root / "copy", collections.Counter()
            whole = listen(reader, fresh(folder, copy))
            if whole.code != 0:
                raise RuntimeError(f"{reader.__name__} fails on a whole folder: {whole.text}")
            for count, (path, name, number) in enumerate(trials(folder, flips)):
                if count % 50 == 0:
                    jax.clear_caches()  # thousands of compiled programs would use up what one process may map
                if not among(path) or not damage(fresh(folder, copy) / path, name, number):
                    continue
                said = listen(reader, copy)
                found[verdict := judge(said, whole, path)] += 1
                if verdict not in RIGHT:
                    log(f"{verdict}: {state} run, {path} {name} {number}, {reader.__name__}: {said.text[-600:]}")
            counts[f"{state}, {reader.__name__}"] = found
            log(f"{state}, {reader.__name__}: {dict(found)}")
    return counts


def fresh(folder: pathlib.Path, copy: pathlib.Path) -> pathlib.Path:
    """A new copy of a folder in place of the old one."""
    shutil.rmtree(copy, ignore_errors=True)
    return pathlib.Path(shutil.copytree(folder, copy))
