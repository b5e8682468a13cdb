"""Files that somebody made to do harm, or that are not what they seem: one line and exit code 2, and nothing runs."""

import copy
import io
import os
import pickle
import resource
import struct
import time
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from nofrost_jax import weights
from nofrost_jax.convert import __main__ as convert
from nofrost_jax.errors import UserError
from nofrost_jax.weights import pickles

TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ"
TENSOR += b"I%d\n(I%d\nt(I%d\ntI00\nNtR"  # offset, size, stride
STATE = b"}S'w'\n" + TENSOR % (0, 4, 1) + b"s."
NUMBERS = np.arange(4, dtype="<f4").tobytes()


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def archive(program=STATE, method=zipfile.ZIP_STORED, **entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as written:
        for name, data in {"data.pkl": program, "data/0": NUMBERS, **entries}.items():
            written.writestr(f"archive/{name}", data)
    return file.getvalue()


def stream(program=STATE, keys=("0",), count=4, numbers=NUMBERS):
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    tail = pickle.dumps(list(keys), 2) + struct.pack("<q", count) + numbers
    return b"".join(pickle.dumps(part, 2) for part in parts) + program + tail


def calls(sentinel):
    """Pickles that would write the file `sentinel`, or fetch what could."""
    shell, code = f"touch {sentinel}", f"__import__('pathlib').Path({str(sentinel)!r}).touch()"
    text = f"S{shell!r}\n".encode()
    return {
        "os.system": pickle.dumps(Call(os.system, shell), 2),
        "posix.system": b"cposix\nsystem\n(" + text + b"tR.",
        "open": pickle.dumps({"w": Call(open, str(sentinel), "w")}, 2),
        "builtins.eval": pickle.dumps(Call(eval, code), 2),
        "builtins.exec": pickle.dumps({"state_dict": [Call(exec, code)]}, 4),
        "a later protocol": pickle.dumps(Call(os.system, shell), 5),
        "getattr chain": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(" + text + b"tR.",
        "import by name": b"cimportlib\nimport_module\n(S'os'\ntR.",
        "dotted name": b"\x80\x04\x8c\x06torch.\x8c\x12_utils.os.sys.pathsx\x93.",
        "name by the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        "instance": b"(" + text + b"ios\nsystem\n.",
        "object": b"(cos\nsystem\n" + text + b"o.",
        "new object": b"\x80\x02csubprocess\nPopen\n" + text + b"\x85\x81.",
        "extension": b"\x80\x02\x82\x01.",
        "attribute of a stand-in": b"cargparse\nNamespace\n)R}S'__class__'\ncos\nsystem\nsb.",
        "call of a stand-in's attribute": b"cbuiltins\n__main__\n(S'system'\n" + text + b"tR.",
        "dill's import": b"cdill._dill\n_import_module\n(S'os.system'\ntR.",
        "storage": b"(S'storage'\ncos\nsystem\nS'0'\nS'cpu'\nI4\ntQ.",
        "text as a function": b"S'os.system'\n(" + text + b"tR.",
        "tensor as a function": TENSOR % (0, 4, 1) + b"(" + text + b"tR.",
    }


def traps():
    """Programs that would take long, take memory, or go deep."""
    laughs = b"(lp0\n0" + b"".join(b"(" + b"g%d\n" % max(i - 1, 0) * 10 + b"tp%d\n0" % i for i in range(1, 40))
    return {
        "as a name": b"}" + laughs + b"g39\nI1\ns.",  # hashing it would take 10^39 steps
        "in a persistent id": laughs + b"(S'storage'\ncjunk\njunk\ng39\ng39\ng39\ntQ.",
        "memory of numbers": b"I1\nr\xff\xff\xff\xff.",
        "memory of texts": b"I1\np99999999999999999999\n.",
        "depth": b"(" * 100_000 + b"t" * 100_000 + b".",
        "depth of lists": b"]" * 300_000 + b"a" * 299_999 + b".",
        "length": b"I1\n0" * 1_200_000 + b"N.",
        "a text of 8 EB": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fx.",
        "an array of 8 EB": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7fx.",
        "an integer of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
        "itself": b"}p0\nS'model'\ng0\ns.",
        "no end": b"}",
        "nothing": b".",
        "below the floor": b"0000.",
        "no mark": b"t.",
    }


def tensors():
    """State dicts whose tensors are not in the file."""
    return {
        "longer than its numbers": archive(b"}S'w'\n" + TENSOR % (0, 5, 1) + b"s."),
        "beyond them": archive(b"}S'w'\n" + TENSOR % (2, 3, 1) + b"s."),
        "before them": archive(b"}S'w'\n" + TENSOR % (-1, 3, 1) + b"s."),
        "backwards": archive(b"}S'w'\n" + TENSOR % (3, 4, -1) + b"s."),
        "wide": archive(b"}S'w'\n" + TENSOR % (0, 2**60, 0) + b"s."),
        "huge": archive(b"}S'w'\n" + TENSOR % (0, 2**40, 0) + b"s."),
        "of nothing": archive(b"}S'w'\n" + TENSOR % (0, 0, 1) + b"s."),
        "elsewhere": archive(STATE.replace(b"S'0'", b"S'../../../etc/passwd'")),
        "absolute": archive(STATE.replace(b"S'0'", b"S'/etc/passwd'")),
        "of no text": archive(STATE.replace(b"S'0'", b"I0\n")),
        "shape of texts": archive(STATE.replace(b"(I4\nt", b"(S'4'\nt")),
        "negative count": stream(count=-1),
        "cut": stream(numbers=NUMBERS[:-1]),
        "count of 2^60": stream(count=2**60),
        "unknown key": stream(keys=("1",)),
    }


def archives():
    """Zip files that are more, or other, than they seem."""
    bomb = archive(method=zipfile.ZIP_DEFLATED, **{"data/0": bytes(50_000_000)})
    crc, lies, moved = bytearray(archive()), bytearray(archive()), bytearray(archive())
    crc[crc.index(NUMBERS) + 2] ^= 1
    place = lies.rindex(b"PK\1\2") + 24  # the size of the last entry in the directory
    lies[place - 4 : place + 4] = struct.pack("<II", 2**31, 2**31)
    start = moved.rindex(b"PK\1\2") + 42
    moved[start : start + 4] = struct.pack("<I", 7)
    return {
        "bomb": bomb,
        "compressed program": archive(method=zipfile.ZIP_DEFLATED),
        "flipped bit": bytes(crc),
        "declared 2 GB": bytes(lies),
        "entry elsewhere": bytes(moved),
        "two programs": archive(**{"more/data.pkl": STATE}),
        "big-endian": archive(byteorder=b"big"),
        "cut": archive()[:-30],
        "npz": _npz(),
        "list": archive(b"(lI1\na."),
    }


def _npz():
    file = io.BytesIO()
    np.savez(file, a=np.arange(3))
    return file.getvalue()


def safetensors_files():
    whole = safetensors.numpy.save({"w": np.arange(4, dtype=np.float32)})
    header = b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    made = lambda text, data=NUMBERS: struct.pack("<Q", len(text)) + text + data  # noqa: E731
    return {
        "cut": whole[:-1],
        "longer": whole + b"x",
        "header of 8 EB": b"\xff" * 7 + b"\x7f" + whole[8:],
        "offsets": made(header.replace(b"16]", b"99]")),
        "shape": made(header.replace(b"[4]", b"[5]")),
        "overlap": made(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},' + header[1:]),
        "kind": made(header.replace(b"F32", b"F33")),
        "deep": made(b'{"w":' * 50_000),
        "negative": made(header.replace(b"[0,", b"[-4,")),
        "no json": made(b"{not json}"),
    }


def refusal(path, data):
    path.write_bytes(data)
    begun = time.perf_counter()
    with pytest.raises(UserError) as caught:
        weights.read(path)
    assert time.perf_counter() - begun < 15
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 600
    return message


@pytest.mark.parametrize("wrap", [lambda program: program, archive, stream], ids=["bare", "zip", "stream"])
@pytest.mark.parametrize("case", calls("x"))
def test_no_call_is_made(tmp_path, wrap, case):
    refusal(tmp_path / "model.pth", wrap(calls(tmp_path / "sentinel")[case]))
    assert os.listdir(tmp_path) == ["model.pth"]


@pytest.mark.parametrize("case", ["os.system", "builtins.eval", "builtins.exec", "getattr chain"])
def test_pythons_reader_would_have_made_it(tmp_path, case):
    """The sentinel can be written."""
    pickle.loads(calls(tmp_path / "sentinel")[case])
    assert (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("case", traps())
def test_traps_are_refused_soon(tmp_path, case):
    program = traps()[case]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if case == "as a name":  # what is no text names nothing, and is left out before it is hashed
        (tmp_path / "model.pth").write_bytes(archive(program))
        assert weights.read(tmp_path / "model.pth") == {}
    else:
        refusal(tmp_path / "model.pth", archive(program))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # KiB


@pytest.mark.parametrize("case", tensors())
def test_a_tensor_is_in_its_file(tmp_path, case):
    refusal(tmp_path / "model.pth", tensors()[case])


@pytest.mark.parametrize("case", archives())
def test_an_archive_is_what_it_seems(tmp_path, case):
    refusal(tmp_path / "model.pth", archives()[case])


def test_dimensions_without_end_are_refused_at_once(tmp_path):
    """Their product would be a number of 500 kB, and take many seconds."""
    size = b"\x8a\x06" + b"\xff" * 5 + b"\x00"  # 2^40 - 1
    shape, strides = (one + b"q\x63" + b"h\x63" * 100_000 for one in (size, b"I0\n"))
    program = b"}S'w'\n" + TENSOR.partition(b"I%d")[0] + b"I0\n(" + shape + b"t(" + strides + b"t"
    begun = time.perf_counter()
    assert "more than 32 dimensions" in refusal(tmp_path / "model.pth", archive(program + b"I00\nNtRs."))
    assert time.perf_counter() - begun < 5


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    """Each would be read through for its checksum."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("archive/data.pkl", STATE)
        written.writestr("archive/data/0", bytes(10_000))
        for number in range(1, 50):
            again = copy.copy(written.getinfo("archive/data/0"))
            again.filename = f"archive/data/{number}"
            written.filelist.append(again)
        written._didModify = True
    assert "larger than the file" in refusal(tmp_path / "model.pth", file.getvalue())


@pytest.mark.parametrize("case", safetensors_files())
def test_a_safetensors_file_is_whole(tmp_path, case):
    refusal(tmp_path / "model.safetensors", safetensors_files()[case])


def test_what_is_good_is_read(tmp_path):
    """The files that the cases above are made of."""
    for name, data in {
        "a.pth": archive(),
        "b.pth": stream(),
        "c.bin": safetensors.numpy.save({"w": np.arange(4.0)}),
    }.items():
        (tmp_path / name).write_bytes(data)
        np.testing.assert_array_equal(weights.read(tmp_path / name)["w"], np.arange(4))


def test_what_scripts_keep_beside_the_weights_is_left_alone(tmp_path):
    beside = [
        b"S'args'\ncargparse\nNamespace\n)\x81}S'lr'\nF0.1\nsbs",
        b"S'best'\ncnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'f8'\nI0\nI1\ntRS'12345678'\ntRs",
        b"S'schedule'\ncdill._dill\n_create_function\n(cdill._dill\n_create_code\n(I1\ntRc__builtin__\n__main__\nS'f'\ntR}bs",
        b"S'seen'\n\x8f(I1\nI2\n\x90s",
        b"S'path'\ncpathlib\nPosixPath\n(S'/'\nS'x'\ntRs",
    ]
    (tmp_path / "model.pth").write_bytes(archive(STATE[:-1] + b"".join(beside) + b"."))
    assert list(weights.read(tmp_path / "model.pth")) == ["w"]


@pytest.mark.parametrize("content", [calls("/nowhere")["os.system"], b"<html>Sign in</html>", b"", archives()["bomb"]])
def test_the_command_ends_with_2_and_one_line(tmp_path, capsys, content):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        convert.main([str(tmp_path / "model.pth"), str(tmp_path / "out")])
    assert ended.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_every_operation_of_a_pickle_is_known_or_refused():
    """A random program raises, or gives a value; it never ends the process, and runs nothing but this reader."""
    draw = np.random.default_rng(0)
    for _ in range(300):
        program = draw.integers(0, 256, 60, dtype=np.uint8).tobytes() + b"."
        try:
            pickles.load(io.BytesIO(program), {}, lambda pid: pid)
        except Exception as error:
            assert not isinstance(error, SystemExit)
