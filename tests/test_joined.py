"""Processes that have joined: when one is stopped, or its machine fails, all end, soon and with a line."""

import signal
import socket
import time

import pytest

from tests.conftest import finish, start

PROGRAM = """
import os, signal, sys, time
from nofrost_jax import errors, parallel, peers, processes
from nofrost_jax.evaluation import chunks
port, me, each_alone, then = sys.argv[1:]
peers.GRACE_SECONDS = 0.5
def ready():
    print("ready", flush=True)
def wait():
    while True:  # a signal that comes just before a sleep does not end it
        time.sleep(0.1)
def evaluate():
    with parallel.StopSignal(each_alone=True) as stop, errors.machine("kept"):
        ready()
        while True:
            chunks.check(stop)
            time.sleep(0.1)
with errors.exit_codes(processes.leave), processes.joined(f"localhost:{port}", 2, int(me), 60, each_alone == "True"):
    exec(then)
"""


def together(each_alone, *programs):
    """What each of two processes does when it has joined: both, once they are ready."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [start("-c", PROGRAM, port, me, each_alone, program) for me, program in enumerate(programs)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", finish(process, 1)
    return processes


def lines(outcome):
    return [line for line in outcome.stderr.splitlines() if "[Gloo]" not in line]


@pytest.mark.parametrize(
    ("victim", "program", "word"),
    [(0, "evaluate()", "during an evaluation"), (1, "ready(); wait()", "to continue")],
    ids=["in an evaluation", "before it"],
)
def test_all_stop_when_a_signal_stops_one(victim, program, word):
    """jax's client takes SIGTERM when it joins; who evaluates must hear it all the same."""
    processes = together(True, program, program)
    begun = time.monotonic()
    processes[victim].send_signal(signal.SIGTERM)
    outcomes = [finish(process, 60) for process in processes]
    assert [outcome.returncode for outcome in outcomes] == [75, 75], outcomes
    assert time.monotonic() - begun < 10
    (own,), (told, other) = (lines(outcomes[number]) for number in (victim, 1 - victim))
    assert own == other and own.startswith("stopped by SIGTERM") and word in own
    assert told.startswith(f"process {victim} of 2 (") and told.endswith(") was stopped: stopping as well")


def test_an_interrupt_before_a_training_hears_signals_stops_all():
    processes = together(False, "ready(); wait()", "peers.STOP_SECONDS = 1; ready(); wait()")
    processes[0].send_signal(signal.SIGINT)
    stopped, deaf = (finish(process, 60) for process in processes)
    assert stopped.returncode == deaf.returncode == 75, (stopped, deaf)
    assert lines(stopped) == ["stopped by SIGINT; run the same command again to continue"]
    assert lines(deaf)[-1] == "did not stop by itself within 1 s; run the same command again to continue"


def test_where_the_machine_of_one_fails_it_says_so_in_a_line():
    full = "ready(); time.sleep(0.5); raise OSError(28, 'No space left on device', '/x')"
    outcomes = [finish(process, 60) for process in together(False, full, "ready(); wait()")]
    assert [outcome.returncode for outcome in outcomes] == [1, 1], outcomes
    assert lines(outcomes[0]) == [
        "error: the disk is full (/x: No space left on device); what was saved before is intact; make room, then run "
        "the same command again"
    ]
    (told,) = lines(outcomes[1])
    assert told.startswith("error: process 0 of 2 (") and "it failed; its own output says why" in told


def test_counts_are_added_up_over_processes():
    program = """if True:
        from nofrost_jax import metrics
        ready()
        print(metrics.over_processes({'a': [2**24 + int(me), 8], 'b': [int(me), 1]}), metrics.over_processes({}))
    """
    for process in together(False, program, program):
        outcome = finish(process, 60)
        assert outcome.returncode == 0, outcome
        assert outcome.stdout.splitlines()[-1] == "{'a': [33554433, 16], 'b': [1, 2]} {}"
