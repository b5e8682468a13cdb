"""Processes of one run that do not find each other, or lose one: each ends with one line that says which."""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

from nofrost_jax import forwarding, peers
from nofrost_jax.errors import UserError
from tests.conftest import ROOT

PROGRAM = """
import itertools, sys, time, types
from nofrost_jax import errors, peers
peers.ANNOUNCE_SECONDS, peers.BEAT_SECONDS, peers.SILENT_SECONDS = 0.3, 0.2, 2
peers.GRACE_SECONDS = peers.UNKNOWN_SECONDS = 0.5
address, count, me, timeout, then, clock = sys.argv[1:]
with errors.exit_codes():
    among = peers.Peers(address, int(count), int(me), int(timeout))
    if clock:
        ticks = itertools.count(1)
        peers.time = types.SimpleNamespace(monotonic=lambda: next(ticks) / 5 if eval(clock) else 0, sleep=time.sleep)
    among.join()
    print("joined", flush=True)
    exec(then)
"""
STAY = "time.sleep(60)"


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


@pytest.fixture
def begin(port):
    """Starts a process: begin(number, count=2, timeout=20, then=code after all have joined). clock: code that tells
    when a clock of its own goes, on by 0.2 s each time that it is read."""
    with contextlib.ExitStack() as stack:

        def call(me, count=2, timeout=20, then="among.leave()", address=None, clock=""):
            command = [sys.executable, "-c", PROGRAM, address or f"127.0.0.1:{port}", count, me, timeout, then, clock]
            process = stack.enter_context(
                subprocess.Popen(
                    list(map(str, command)), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
            )
            stack.callback(process.kill)
            return process

        yield call


def end(process):
    """(exit code, lines of stdout, lines of stderr)."""
    out, err = process.communicate(timeout=30)
    return process.returncode, out.splitlines(), err.splitlines()


def wait_until_joined(*processes):
    for process in processes:
        assert "joined\n" in iter(process.stdout.readline, "")  # after lines about who is missing


def wait_until_it_listens(port):
    for _ in range(1000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":1234", "localhost:x", "localhost:70000"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(UserError, match="is not HOST:PORT"):
        peers.Peers(address, 2, 0, 1)


@pytest.mark.parametrize(("count", "me"), [(2, 2), (2, -1), (0, 0)])
def test_numbers_that_do_not_fit_are_refused(count, me):
    with pytest.raises(UserError, match=f"--process_id={me} and --num_processes={count} do not fit"):
        peers.Peers("localhost:1234", count, me, 1)


def test_they_meet_in_any_order_and_one_that_says_goodbye_is_not_lost(begin, port):
    first = begin(1, 3)
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        pass
    others = [begin(0, 3, then="time.sleep(1); among.leave()"), begin(2, 3, then="time.sleep(0.5); among.leave()")]
    for process in (first, *others):
        assert end(process) == (0, ["joined"], [])


def test_strangers_at_the_port_and_processes_that_leave_again_do_no_harm(begin, port):
    zero = begin(0, 3)
    assert f"for processes 1, 2 of 3 at --coordinator_address=127.0.0.1:{port}" in zero.stdout.readline()
    for content in (b"GET / HTTP/1.0\r\n\r\n", b'{"me": 1}\n', b'"x"\n'):
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(content)
    gone = begin(1, 3)
    assert "waiting" in gone.stdout.readline()  # it has come, and is told of the other
    gone.kill()
    assert {end(process)[0] for process in (begin(1, 3), begin(2, 3), zero)} == {0}


def test_who_is_missing_is_announced_and_named_at_the_end(begin, port):
    """On clocks that count looks, and at process 0 only once the other has come: however slow the machine is."""
    zero = begin(0, 4, timeout=2, clock="among._others")
    wait_until_it_listens(port)
    for process in (zero, begin(2, 4)):
        code, out, (line,) = end(process)
        assert code == 1 and line.startswith("error: no sign of processes 1, 3 of 4 at --coordinator_address=")
        assert "within 2 s; here are 0 (" in line and "), 2 (" in line
        assert len(out) >= 2 and all("for processes 1, 3 of 4" in said for said in out)
    code, out, (line,) = end(begin(1, timeout=2, clock="True"))
    assert code == 1 and "process 0 at --coordinator_address=" in line and "cannot be reached" in line
    assert out and all("process 0 at" in said for said in out)


def test_process_0_says_that_the_address_is_another_hosts(begin, port):
    code, out, (line,) = end(begin(0, timeout=2, address=f"192.0.2.1:{port}", clock="True"))
    assert code == 1 and out
    for said in (line, *out):
        assert "for process 1 of 2" in said or "no sign of process 1 of 2" in said
        assert "is 192.0.2.1 an address of this host" in said


def test_an_unknown_host_is_refused(begin):
    code, _, (line,) = end(begin(1, address="no-such-host.invalid:1234"))
    assert code == 2 and "this host knows no no-such-host.invalid" in line


@pytest.mark.parametrize(("second", "words"), [((2, 3), "--num_processes=2 here and 3 at"), ((0, 2), "in use")])
def test_what_does_not_fit_the_others_is_refused_by_all(begin, second, words):
    zero = begin(0)
    time.sleep(0.7)
    other = begin(*second)
    code, _, (line,) = end(other)
    assert code == 2 and words in line
    if second[0]:
        assert end(zero)[::2] == (2, [line])


def test_a_number_that_is_given_twice_is_refused_by_all(begin):
    ends = [end(process) for process in [begin(0, 3), begin(1, 3), begin(1, 3)]]
    assert {code for code, _, _ in ends} == {2} and len({line for _, _, (line,) in ends}) == 1
    assert "--process_id=1 twice, at " in ends[0][2][0]


def test_one_that_is_gone_may_come_again_at_once(begin):
    """Its end and the newcomer are seen in one look."""
    zero, gone = begin(0, 3), begin(1, 3)
    assert "waiting" in gone.stdout.readline()
    zero.send_signal(signal.SIGSTOP)
    gone.kill()
    gone.wait()
    again = begin(1, 3)
    time.sleep(0.7)  # it has come
    zero.send_signal(signal.SIGCONT)
    assert [end(process)[0] for process in (begin(2, 3), again, zero)] == [0, 0, 0]


def test_one_that_sends_something_unreadable_is_lost(begin):
    garble = "among._others[0][0].sendall(b'{\\xff\\n'); time.sleep(60)"
    processes = [begin(0, 3, then=STAY), begin(1, 3, then=garble), begin(2, 3, then=STAY)]
    for process in processes:
        code, _, (line,) = end(process)
        assert code == 1 and "process 1 of 3 (" in line and line.count("is lost: it sent something unreadable") == 1


def test_another_program_at_the_address_is_told(begin, port):
    with socket.create_server(("127.0.0.1", port)) as server:
        process = begin(1, timeout=1)
        server.settimeout(0.5)
        while process.poll() is None:
            with contextlib.suppress(OSError), server.accept()[0] as connection:
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                connection.recv(99)
        code, _, (line,) = end(process)
    assert code == 1 and "is some other program, for 1 s" in line


@pytest.mark.parametrize("victim", [0, 1])
def test_where_one_is_stopped_all_stop(begin, victim):
    stopped = "among.leave('stopped'); raise errors.Preempted('stopped by hand')"
    hearing, deaf = STAY, "peers.STOP_SECONDS = 0.5; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    programs = [hearing, hearing, f"import signal; {deaf}"]
    programs[victim] = stopped
    processes = [begin(me, 3, then=then) for me, then in enumerate(programs)]
    ends = [end(process) for process in processes]
    assert [code for code, _, _ in ends] == [75, 75, 75], ends
    assert ends[victim][2] == ["stopped by hand"]
    for _, _, (told, own) in (ends[1 - victim], ends[2]):
        assert told.startswith(f"process {victim} of 3 (") and told.endswith(") was stopped: stopping as well")
        assert own.endswith("run the same command again to continue")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_process_is_named_by_all_others(begin, victim, number):
    processes = [begin(me, 3, then=STAY) for me in range(3)]
    wait_until_joined(*processes)
    start = time.monotonic()
    processes.pop(victim).send_signal(number)
    for process in processes:
        code, _, (line,) = end(process)
        assert code == 1 and line.startswith(f"error: process {victim} of 3 (") and "is lost" in line
    assert time.monotonic() - start < (3.5 if number == signal.SIGSTOP else 1)


def test_where_one_ends_with_an_error_the_others_end_but_with_their_own_word_if_they_have_one(begin):
    fail = "among.leave('failed'); raise errors.UserError('of its own')"
    zero, one = begin(0, 3, then=STAY), begin(1, 3, then=fail)
    two = begin(2, 3, then=f"time.sleep(0.2); {fail}")
    for process in (one, two):
        assert end(process) == (2, ["joined"], ["error: of its own"])
    code, _, (line,) = end(zero)
    assert code == 1 and " of 3 (" in line and "is lost: it failed; its own output says why" in line


@pytest.fixture
def forwarder():
    """Starts one: forwarder(host, port) is its (host, port)."""
    with contextlib.ExitStack() as stack:

        def call(*at):
            address, process = forwarding.start(*at)
            stack.enter_context(process)
            stack.callback(process.stdin.close)
            host, port = address.split(":")
            return host, int(port)

        yield call


def test_the_forwarder_does_not_tell_that_the_other_side_is_gone(forwarder):
    """Else jax's client and the line about the lost process would race to the screen."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        near = stack.enter_context(socket.create_connection(forwarder(*server.getsockname()[:2]), timeout=5))
        with server.accept()[0] as far:
            near.sendall(b"there")
            assert far.recv(9) == b"there"
            far.sendall(b"back")
            assert near.recv(9) == b"back"
        near.settimeout(0.5)
        with pytest.raises(TimeoutError):
            near.recv(9)


def test_the_forwarder_works_while_a_call_holds_pythons_lock(forwarder):
    """As jax does while its processes agree on the step at which they stop."""
    answer = (
        "import socket, time; server = socket.create_server(('127.0.0.1', 0))"
        "; print(server.getsockname()[1], flush=True)"
        "; connection = server.accept()[0]; time.sleep(0.5); connection.sendall(b'x'); connection.recv(1)"
    )
    with contextlib.ExitStack() as stack:
        command = [sys.executable, "-c", answer]
        far = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        near = stack.enter_context(socket.create_connection(forwarder("127.0.0.1", int(far.stdout.readline()))))
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 10, 0))
        content = ctypes.create_string_buffer(1)
        assert ctypes.PyDLL(None).recv(near.fileno(), content, 1, 0) == 1  # a PyDLL's calls hold the lock


def test_the_forwarder_ends_with_the_process_that_started_it():
    start = "from nofrost_jax import forwarding; import os; address, process = forwarding.start('127.0.0.1', 1)"
    start += "; print(process.pid, flush=True); os._exit(1)"
    pid = int(subprocess.run([sys.executable, "-c", start], cwd=ROOT, capture_output=True, text=True).stdout)
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}"):
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} goes on")
