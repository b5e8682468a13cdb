"""The hub, as a folder in its cache's layout and a stand-in for its calls; nothing is downloaded or uploaded."""

import os
import shutil
import sys
import types

import pytest

import nofrost_jax
from nofrost_jax.convert import __main__ as convert
from nofrost_jax.convert import hub
from nofrost_jax.errors import UserError
from tests.conftest import ROOT, finish, start

hf = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed; see requirements-test.txt")
errors, constants = (pytest.importorskip(f"huggingface_hub.{name}") for name in ("errors", "constants"))
DIGITS, REVISION = ROOT / "notebooks/digits_nofrost", "0123456789" * 4


@pytest.fixture
def home(tmp_path, monkeypatch):
    """HF_HOME with the repository owner/digits at one revision, its branch main and tag v1; the hub is out of reach."""
    place = tmp_path / "hf/hub/models--owner--digits"
    shutil.copytree(DIGITS, place / "snapshots" / REVISION, ignore=shutil.ignore_patterns("evaluations"))
    (place / "refs").mkdir()
    for name in ("main", "v1"):
        (place / "refs" / name).write_text(REVISION)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf/hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hf"


@pytest.mark.parametrize("address", ["hf://owner/digits", "hf://owner/digits@v1", f"hf://owner/digits@{REVISION}"])
def test_a_repository_is_loaded_with_its_revision(home, address):
    classifier, local = nofrost_jax.load(address), nofrost_jax.load(DIGITS)
    found = classifier.provenance
    assert (found["source"], found["repository"], found["revision"]) == (address, "owner/digits", REVISION)
    assert found["params_sha256"] == local.provenance["params_sha256"]


def test_the_command_takes_one_as_a_user_has_it(home, tmp_path):
    command = ("-m", "nofrost_jax.convert", "hf://owner/digits", tmp_path / "out")
    done = finish(start(*command, HF_HOME=str(home), HF_HUB_OFFLINE="1"), timeout=120)
    assert done.returncode == 0, done
    provenance = nofrost_jax.load(tmp_path / "out").provenance  # kept by the export
    assert provenance["revision"] == REVISION and provenance["repository"] == "owner/digits"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://owner/other", "not in the hub's cache"),
        ("hf://owner/digits@v2", "not in the hub's cache"),
        ("hf://owner", "hf://OWNER/NAME"),
        ("hf://owner/digits@", "hf://OWNER/NAME"),
        ("hf://owner/digits/more", "hf://OWNER/NAME"),
        ("hf://owner/..", "not the name of a repository"),
        ("hf://../digits", "not the name of a repository"),
    ],
)
def test_what_is_not_there_is_one_line(home, address, words):
    with pytest.raises(UserError) as caught:
        nofrost_jax.load(address)
    assert words in str(caught.value) and address in str(caught.value) and "\n" not in str(caught.value)


def test_a_repository_of_other_files(home):
    folder = home / "hub/models--owner--digits/snapshots" / REVISION
    (folder / "config.json").write_text('{"architecture": "vit"}')
    with pytest.raises(UserError, match="these are the weights of"):
        nofrost_jax.load("hf://owner/digits")
    os.remove(folder / "model.safetensors")
    with pytest.raises(UserError, match=r"hf://owner/digits has no model.safetensors"):
        nofrost_jax.load("hf://owner/digits")


@pytest.mark.parametrize("text", ["5", "{", "[" * 50_000])
def test_a_repository_whose_config_is_none(home, text):
    (home / "hub/models--owner--digits/snapshots" / REVISION / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"cannot read .*config\.json") as caught:
        nofrost_jax.load("hf://owner/digits")
    assert "\n" not in str(caught.value)


class StandIn:
    """HfApi's calls: what was asked for, and the files that would be uploaded."""

    asked, failure = [], None

    def create_repo(self, **given):
        self.asked.append(given)
        if self.failure:
            raise self.failure

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        files = {name: (ROOT / folder_path / name).read_bytes() for name in allow_patterns}
        self.asked.append({"repo_id": repo_id, "files": files})
        return types.SimpleNamespace(oid=REVISION)


@pytest.fixture
def stand_in(monkeypatch):
    made = type("Made", (StandIn,), {"asked": [], "failure": None})
    monkeypatch.setattr(hf, "HfApi", made)
    return made


def test_push_makes_the_repository_and_uploads_an_export(stand_in, capsys, tmp_path):
    convert.main([str(DIGITS), "--push=owner/digits"])
    made, uploaded = stand_in.asked
    assert made == {"repo_id": "owner/digits", "private": False, "exist_ok": True}
    assert set(uploaded["files"]) == {"model.safetensors", "config.json", "README.md"}
    assert uploaded["files"]["config.json"] == (DIGITS / "config.json").read_bytes()
    assert b"`aa_standard`" in uploaded["files"]["README.md"]
    assert f"pushed: hf://owner/digits@{REVISION}" in capsys.readouterr().out
    convert.main([str(DIGITS), str(tmp_path / "out"), "--push=owner/digits", "--private"])
    assert stand_in.asked[2]["private"] and (tmp_path / "out/README.md").exists()


def response(status):
    return types.SimpleNamespace(status_code=status, headers={}, request=None)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (lambda: errors.LocalTokenNotFoundError("no token"), "run hf auth login"),
        (lambda: errors.RepositoryNotFoundError("404", response=response(404)), "or is private"),
        (lambda: errors.GatedRepoError("403", response=response(403)), "owner's permission"),
        (lambda: errors.HfHubHTTPError("401", response=response(401)), "status 401; log in"),
        (lambda: errors.HfHubHTTPError("503", response=response(503)), "status 503; try again later"),
        (lambda: errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE"),
        (lambda: ConnectionError("no route"), "cannot be reached"),
        (lambda: type("ConnectError", (Exception,), {"__module__": "httpx"})("no route"), "cannot be reached"),
    ],
)
def test_a_push_that_fails_is_one_line(stand_in, capsys, failure, words):
    stand_in.failure = failure()
    with pytest.raises(SystemExit, match="2"):
        convert.main([str(DIGITS), "--push=owner/digits"])
    line = capsys.readouterr().err
    assert words in line and "owner/digits" in line and len(line.splitlines()) == 1
    assert len(stand_in.asked) == 1


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install huggingface_hub$"):
        hub.download("hf://owner/digits")
