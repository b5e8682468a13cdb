"""The launch scripts: all start the same command; `local.sh` runs two processes as one run, stopped and resumed."""

import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import nofrost_jax
from nofrost_jax import processes, signals
from nofrost_jax.errors import UserError
from tests.conftest import ROOT, environment, finish, overrides, run_main, start

LAUNCH = ROOT / "launch"
SCRIPTS = sorted(path for path in LAUNCH.iterdir() if path.suffix != ".yaml")
RUN = {  # 40 steps, of which SIGTERM takes a dozen to arrive; an evaluation whose last batch is half empty
    "epochs": 1,
    "data.fake_train": 640,
    "data.fake_eval": 48,
    "model.stage_sizes": (1,),
    "attack.steps": 2,
    "evaluation.attacks.pgd_20.steps": 3,
    "evaluation.every_epochs": 0,
    "checkpoint.every_steps": 1000,
    "log.every_steps": 1,
    "log.tensorboard": False,
}
STUB = """
import json, os, signal, sys, time
flags = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
me = flags["process_id"]
def write(name, content):
    with open(f"{name}.{me}.tmp", "w") as file:
        file.write(content)
    os.rename(f"{name}.{me}.tmp", f"{name}.{me}")
def stop(number, frame):
    write("stopped", str(number))
    if "deaf" in flags:
        return
    time.sleep(float(me))
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
write("started", json.dumps({"pid": os.getpid(), "argv": sys.argv, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}))
print(f"output of process {me}", flush=True)
if me in flags.get("exit", ""):
    sys.exit(3)
time.sleep(float(flags.get("sleep", 0)))
"""


def launch(script, *args, cwd=ROOT, **variables):
    """A Popen of a launch script, with this Python as `python`."""
    variables["PATH"] = os.pathsep.join(
        [*variables.pop("bin", []), os.path.dirname(sys.executable), os.environ["PATH"]]
    )
    return subprocess.Popen(
        ["bash", str(LAUNCH / script), *map(str, args)],
        cwd=cwd,
        env=environment(1, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, finish(process, timeout=1)
        time.sleep(0.05)


# What each script says


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_start_the_same_command_and_set_no_hyper_parameter(path):
    text = path.read_text()
    subprocess.run([os.path.join(os.path.dirname(sys.executable), "shellcheck"), str(path)], check=True)
    assert text.startswith("#!/usr/bin/env bash\n") and os.access(path, os.X_OK)
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert len(re.findall(r"python main\.py", code)) == 1
    assert "--config" not in code.replace("--config=FILE", "") and "--workdir" not in code.replace("--workdir=DIR", "")
    assert "launch/" + path.name in text.split("\nset -")[0], "the header shows how to call it"


def fake_programs(folder, **programs):
    folder.mkdir()
    for name, body in programs.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (folder / name).chmod(0o755)
    return folder


ARGUMENTS = ["--config=configs/digits.py:sat", "--workdir=a folder", "--config.model.stage_sizes=(1, 1)"]


@pytest.mark.parametrize("code, requeued", [(0, False), (75, True), (2, False)])
def test_slurm_queues_again_after_75_only(tmp_path, code, requeued):
    record = f'printf "%s\\n" "$@" >{tmp_path}'
    programs = fake_programs(
        tmp_path / "bin", srun='exec "$@"', python=f"{record}/python\nexit {code}", scontrol=f"{record}/scontrol"
    )
    outcome = finish(launch("slurm.sbatch", *ARGUMENTS, bin=[str(programs)], SLURM_JOB_ID="123"))
    assert outcome.returncode == code, outcome
    assert (tmp_path / "python").read_text().splitlines() == ["main.py", *ARGUMENTS]
    assert (tmp_path / "scontrol").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol").read_text().split() == ["requeue", "123"]


def test_slurm_outlives_the_signal_that_ends_its_steps(tmp_path):
    python = f"trap 'sleep 1; exit 75' TERM\ntouch {tmp_path}/started\nwhile :; do sleep 0.1; done"
    programs = fake_programs(tmp_path / "bin", srun='exec "$@"', python=python, scontrol=f"touch {tmp_path}/requeued")
    process = launch("slurm.sbatch", bin=[str(programs)], SLURM_JOB_ID="123")
    wait_for((tmp_path / "started").exists, process)
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, int(children[0])):
        os.kill(pid, signal.SIGTERM)
    assert finish(process).returncode == 75
    assert (tmp_path / "requeued").exists()


def test_tpu_pod_gives_every_worker_the_same_arguments(tmp_path):
    programs = fake_programs(tmp_path / "bin", gcloud=f'printf "%s\\n" "$@" >{tmp_path}/gcloud')
    outcome = finish(launch("tpu_pod.sh", "my-tpu", *ARGUMENTS, bin=[str(programs)], ZONE="us-central2-b"))
    assert outcome.returncode == 0, outcome
    *options, command = (tmp_path / "gcloud").read_text().splitlines()
    assert options == ["compute", "tpus", "tpu-vm", "ssh", "my-tpu", "--zone=us-central2-b", "--worker=all"]
    words = shlex.split(command.removeprefix("--command="))
    assert words == ["cd", "nofrost_jax", "&&", "python", "main.py", *ARGUMENTS, "--coordinator_address=auto"]
    assert finish(launch("tpu_pod.sh", "my-tpu", *ARGUMENTS, bin=[str(programs)], ZONE="")).returncode == 2


# local.sh, with a main.py that only sleeps


@pytest.fixture
def stub(tmp_path):
    """Starts local.sh in a folder with the stub; its TMPDIR is `logs` there."""
    (tmp_path / "main.py").write_text(STUB)
    (tmp_path / "logs").mkdir()

    def start(*args, **variables):
        return launch("local.sh", *args, cwd=tmp_path, TMPDIR=str(tmp_path / "logs"), **variables)

    return start


def started(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("started.?"))]


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_local_gives_each_process_the_arguments_and_its_place(tmp_path, stub):
    outcome = finish(stub(3, "--workdir=a folder", "--text=a*", GPUS="0,1 2 3"))
    assert outcome.returncode == 0, outcome
    assert outcome.stdout == "output of process 0\n"
    records = started(tmp_path)
    address = records[0]["argv"][3]
    assert re.fullmatch(r"--coordinator_address=127\.0\.0\.1:\d+", address)
    for place, record in enumerate(records):
        own = [address, "--num_processes=3", f"--process_id={place}"]
        assert record["argv"] == ["main.py", "--workdir=a folder", "--text=a*", *own]
    assert [record["gpus"] for record in records] == ["0,1", "2", "3"]
    assert not list((tmp_path / "logs").iterdir())


def test_local_ends_the_others_when_one_fails_and_shows_why(tmp_path, stub):
    outcome = finish(stub(3, "--sleep=300", "--exit=2"), timeout=60)
    assert outcome.returncode == 3, outcome
    assert "process 2 failed with exit code 3" in outcome.stderr and "output of process 2" in outcome.stderr
    assert [is_running(record["pid"]) for record in started(tmp_path)] == [False] * 3


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_local_hands_signals_on_and_waits_for_all(tmp_path, stub, number):
    process = stub(2, "--sleep=300")
    wait_for(lambda: len(started(tmp_path)) == 2, process)
    process.send_signal(number)
    assert finish(process, timeout=60).returncode == 75
    assert [path.read_text() for path in sorted(tmp_path.glob("stopped.?"))] == [str(int(signal.SIGTERM))] * 2
    assert not list((tmp_path / "logs").iterdir())
    assert [is_running(record["pid"]) for record in started(tmp_path)] == [False] * 2


def test_local_ends_all_at_once_after_a_second_interrupt(tmp_path, stub):
    process = stub(2, "--sleep=300", "--deaf=yes")
    wait_for(lambda: len(started(tmp_path)) == 2, process)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: len(list(tmp_path.glob("stopped.?"))) == 2, process)
    process.send_signal(signal.SIGINT)
    assert finish(process, timeout=20).returncode == 137
    assert [is_running(record["pid"]) for record in started(tmp_path)] == [False] * 2


@pytest.mark.parametrize("args, gpus", [([], ""), (["0"], ""), (["two"], ""), (["--config=x"], ""), ([2], "0 1 2")])
def test_local_refuses_wrong_counts(tmp_path, stub, args, gpus):
    outcome = finish(stub(*args, GPUS=gpus))
    assert outcome.returncode == 2 and len(outcome.stderr.splitlines()) == 1, outcome
    assert not started(tmp_path)


# The real thing


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def written(workdir):
    """Relative paths, without what orbax keeps inside a checkpoint."""
    return sorted(
        str(path.relative_to(workdir)) for path in workdir.rglob("*") if len(path.relative_to(workdir).parts) < 3
    )


@pytest.mark.slow
def test_two_processes_are_one_run_also_when_preempted(tmp_path):
    """Two processes of one device, stopped by SIGTERM and started again, against one process of two devices.

    The same program over the same two shards; with two summands there is one summation order, so that only the
    compilers' freedom is left: 1e-5 relative.
    """
    two, one = tmp_path / "two", tmp_path / "one"
    cache = f"--compilation_cache={tmp_path / 'compiled'}"
    args = ["--config=configs/nofrost_r26.py:runlocal", *overrides(RUN), cache]
    process = launch("local.sh", 2, *args, f"--workdir={two}", TMPDIR=str(tmp_path))
    lines = lambda: metrics(two) if (two / "metrics.jsonl").exists() else []  # noqa: E731
    wait_for(lambda: len(lines()) >= 2, process)
    process.send_signal(signal.SIGTERM)
    stopped = finish(process)
    assert stopped.returncode == 75, f"{stopped.stdout}\n{stopped.stderr}"
    (saved,) = (int(path.name) for path in (two / "checkpoints").iterdir())
    assert 2 <= saved < 40 and f"step {saved} is saved" in stopped.stderr

    resumed = finish(launch("local.sh", 2, *args, f"--workdir={two}", TMPDIR=str(tmp_path)))
    assert resumed.returncode == 0, resumed
    assert f"resuming from the checkpoint of step {saved}" in resumed.stdout
    alone = run_main(*args, f"--workdir={one}", devices=2)
    assert alone.returncode == 0, alone

    assert [line["step"] for line in metrics(two)] == list(range(1, 41)), "each step once: only process 0 writes"
    assert written(two) == sorted([*written(one), f"checkpoints/{saved}"])
    for ours, theirs in zip(metrics(two), metrics(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    with np.load(two / "evaluations/final.npz") as ours, np.load(one / "evaluations/final.npz") as theirs:
        assert len(ours["index"]) == 48
        for name in theirs.files:
            np.testing.assert_array_equal(ours[name], theirs[name])
    parameters = [jax.device_get(nofrost_jax.load(folder).variables) for folder in (two, one)]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), *parameters)


@pytest.mark.slow
def test_a_lost_process_ends_the_other_with_a_line(tmp_path):
    """And with nothing of jax's own, whose client prints a stack when process 0 is gone."""
    args = ["main.py", "--config=configs/nofrost_r26.py:runlocal", *overrides(RUN | {"epochs": 50})]
    args += [f"--workdir={tmp_path}/run", "--num_processes=2"]
    with socket.socket() as free:
        free.bind(("", 0))
        args.append(f"--coordinator_address=localhost:{free.getsockname()[1]}")
    lost, other = (start(*args, f"--process_id={number}") for number in range(2))
    metrics = tmp_path / "run/metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text(), lost)
    begun = time.monotonic()
    lost.kill()
    finish(lost)
    outcome = finish(other)
    assert outcome.returncode == 1 and time.monotonic() - begun < 10
    (line,) = [line for line in outcome.stderr.splitlines() if "[Gloo]" not in line]
    assert line.startswith("error: process 0 of 2 (") and "is lost: its connection closed" in line


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, None),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}, None),
        ({"SLURM_NTASKS": "4"}, None),  # an allocation, but not under srun
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "4"}, []),  # all GPUs of its node
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "1"}, "jax's choice"),  # one GPU each
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, []),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, "jax's choice"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, []),
    ],
)
def test_a_process_alone_on_its_host_takes_all_devices(monkeypatch, variables, expected):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_", "TPU_"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **options: calls.append(options["local_device_ids"]))
    processes.initialize()
    assert calls == ([] if expected is None else [None if expected == "jax's choice" else expected])


def test_the_place_in_a_cluster_is_found_out(monkeypatch):
    """Under SLURM processes meet and watch each other as with an address that is given."""
    variables = {"JOB_ID": "77", "NTASKS": "4", "PROCID": "3", "LOCALID": "0", "STEP_NODELIST": "node[07-10]"}
    for name, value in (variables | {"STEP_NUM_TASKS": "4", "STEP_NUM_NODES": "4"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    places, calls = [], []

    class Peers:
        def __init__(self, *place):
            places.append(place)

        def join(self):
            calls.append("join")

        def forwarded(self):
            return "forwarder"

    monkeypatch.setattr(processes.peers, "Peers", Peers)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **options: calls.append((*args, options)))
    assert isinstance(processes.initialize(timeout=5), Peers)
    ((address, *rest),) = places
    assert re.fullmatch(r"node07:\d+", address) and rest == [4, 3, 5]
    assert calls == ["join", ("forwarder", 4, 3, {"local_device_ids": []})]


def test_auto_without_a_cluster_is_refused(monkeypatch):
    def refuse(**_):
        raise error

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    error = ValueError("coordinator_address should be defined.")
    with pytest.raises(UserError, match="jax finds no cluster to join"):
        processes.initialize("auto")
    error = RuntimeError("Kubernetes API Error: 403")
    with pytest.raises(RuntimeError, match="403"):
        processes.initialize("auto")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(UserError, match=r"no cluster to join .*Error: 403"):
        processes.initialize("auto")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(UserError, match="--num_processes=2 needs --coordinator_address"):
        processes.initialize("", 2)
