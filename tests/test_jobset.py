"""launch/gke_jobset.yaml: what it tells Kubernetes, and its command line, which main.py must understand."""

import re

import pytest
import yaml
from absl.testing import flagsaver

from tests.conftest import ROOT

FILE = ROOT / "launch/gke_jobset.yaml"


def read():
    """(spec of the JobSet, of its only Job, of the pods, of the only container)."""
    jobset = yaml.safe_load(FILE.read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (group,) = jobset["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert group["name"] == "host" and group["replicas"] == 1
    return jobset["spec"], job, pod, container


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections reads files by it
def test_the_pods_are_one_run():
    """As many processes as pods, numbered by Kubernetes, that meet at the pod with the number 0."""
    import main

    _, job, _, container = read()
    pods = job["parallelism"]
    assert job["completions"] == pods and job["completionMode"] == "Indexed"
    values = {"JOBSET_NAME": "nofrost", "JOB_COMPLETION_INDEX": "1"}
    assert {entry["name"] for entry in container["env"]} == values.keys()
    python, program, *args = [
        re.sub(r"\$\((\w+)\)", lambda name: values[name[1]], word) for word in container["command"] + container["args"]
    ]
    with flagsaver.flagsaver():
        main.parse([program, *args])
        assert python == "python" and program == "main.py"
        assert main._PROCESSES.value == pods and main._PROCESS.value == 1
        assert main._COORDINATOR.value == "nofrost-host-0-0.nofrost:1234"
        assert main._CONFIG.value.model.name == "nf_resnet50"
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "data"]
        assert main._WORKDIR.value.startswith(mount["mountPath"] + "/")


def action(message, reason="PodFailurePolicy"):
    """What the JobSet does when its Job fails with a reason and a message."""
    for rule in read()[0]["failurePolicy"]["rules"]:
        patterns = rule.get("onJobFailureMessagePatterns", [""])
        if reason in rule["onJobFailureReasons"] and any(re.search(pattern, message) for pattern in patterns):
            return rule["action"]
    return "RestartJobSet"  # up to maxRestarts times


def test_exit_codes_decide_what_happens_next():
    spec, job, pod, container = read()
    on_codes, on_disruption = job["podFailurePolicy"]["rules"]
    assert on_codes["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [2, 75]}
    assert on_disruption["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert job["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"  # the run ends with its first pod
    pod_name = "default/nofrost-host-0-1-x"
    message = f"Container main for pod {pod_name} failed with exit code {{}} matching FailJob rule at index 0"
    assert action(message.format(2)) == "FailJobSet"
    assert action(message.format(75)) == "RestartJobSetAndIgnoreMaxRestarts"
    moved = f"Pod {pod_name} has condition DisruptionTarget matching FailJob rule at index 1"
    assert action(moved) == "RestartJobSetAndIgnoreMaxRestarts"
    assert action("Job has reached the specified backoff limit", "BackoffLimitExceeded") == "RestartJobSet"
    assert spec["failurePolicy"]["maxRestarts"] > 0
    assert pod["terminationGracePeriodSeconds"] >= 60


def test_the_header_says_how_to_start_and_what_to_edit():
    header, _, rest = FILE.read_text().partition("apiVersion")
    assert all(line.startswith("#") for line in header.splitlines()) and "kubectl apply -f launch/" in header
    edited = [line for line in rest.splitlines() if "# EDIT" in line]
    wanted = ("name:", "parallelism:", "completions:", "--num_processes", "--config", "image:", "claimName:", "gpu:")
    assert all(any(word in line for line in edited) for word in wanted)
