"""The page and its command: well-formed, self-contained, accessible, and no text of a result file is more than text."""

import base64
import errno
import hashlib
import html.parser
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse

import numpy as np
import pytest

from nofrost_jax import files
from nofrost_jax.report import __main__ as command
from nofrost_jax.report import page
from tests.conftest import ROOT
from tests.report import made

NASTY = "<script>alert(1)</script> \"'&amp;{{ 7*7 }}\u202e\x1b[31m"
NASTY_ATTACK = "x|y <img src=x onerror=1> [a](javascript:1)"
VOID = {"meta", "br", "img", "input", "link"}


class Page(html.parser.HTMLParser):
    """A page's elements, in order: (tag, attributes, tags around it), and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text, self.contents = [], [], [], {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attributes), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        inner = self.open[-1] if self.open else ""
        self.contents.setdefault(inner, []).append(data)
        if inner not in ("script", "style"):
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes, _ in self.elements if name == tag]


def run(folder, row, counts, flags=(), n=200, **fields):
    clean, *robust = counts
    names = ("pgd_20", "aa_fast_20", "aa_standard", NASTY_ATTACK)
    attacks = [made.attack(name, count, n, flags=flags) for name, count in zip(names, robust, strict=False)]
    columns = {name: np.arange(n) < count for name, count in zip(names, robust, strict=False)}
    result = made.result(made.net(row), clean, attacks, n, sha=str(folder), **fields)
    made.write(folder, result, made.arrays(np.arange(n) < clean, **columns))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs & <b>")
    run(folder / "sat", "sat", (110, 20, 8, 7), ["weak_attack"])
    run(folder / "sat_again", "sat", (111, 22, 9))
    run(folder / NASTY.replace("/", "\\"), "nofrost", (140, 25, 10), [NASTY])
    run(folder / "digits", "nofrost", (190, 150, 130, 125, 120), source=f"tfds:{NASTY}")
    bad = made.write(folder / "bad", made.result(None))
    bad.rename(bad.with_name(f"{NASTY.replace('/', ' ')}.json")).write_text("<html>")
    (folder / "study.json").write_text((ROOT / "benchmarks/results/study_digits.json").read_text())
    return folder


@pytest.fixture
def no_figures(monkeypatch):
    """Drawing takes seconds and has tests of its own."""

    def draw_all(collection, out):
        os.makedirs(os.path.join(out, "figures"), exist_ok=True)
        return [], []

    monkeypatch.setattr(command.figures, "draw_all", draw_all)


def call(*arguments):
    """The exit code of the command."""
    try:
        command.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    """The folder of a report, made by its own process, in which `import jax` fails."""
    out = tmp_path_factory.mktemp("out") / "report"
    code = (
        "import sys; sys.modules['jax'] = None\n"
        "from nofrost_jax.report.__main__ import main\n"
        "main(sys.argv[1:])\n"
        "assert not {'flax', 'tensorflow', 'torch', 'optax', 'orbax'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, runs, f"--output={out}"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "written: " in done.stdout and "it is a web page" in done.stderr and "\x1b" not in done.stderr
    return out


@pytest.fixture(scope="module")
def parsed(report):
    return Page((report / "index.html").read_text())


def test_ids_are_unique_and_links_within_the_page_lead_to_one(parsed):
    ids = [attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20
    named = [attributes["href"][1:] for attributes in parsed.all("a") if attributes["href"].startswith("#")]
    named += [one for _, found, _ in parsed.elements for one in found.get("aria-labelledby", "").split()]
    assert named and set(named) <= set(ids)


def test_numbers_link_to_their_result_files(parsed, report, runs):
    links = [attributes["href"] for attributes in parsed.all("a") if not attributes["href"].startswith("#")]
    targets = {(report / urllib.parse.unquote(link)).resolve() for link in links}
    assert all(target.exists() and ":" not in link for target, link in zip(targets, links, strict=False))
    assert {path.resolve() for path in runs.glob("*/evaluations/paper.json")} <= targets
    titles = [found["title"] for found in parsed.all("a") if "title" in found and "evaluations" in found["href"]]
    assert any(
        "200 images; flags: weak_attack; " in title and "python main.py --mode=evaluate" in title for title in titles
    )


def test_every_text_of_a_file_is_escaped(parsed, report):
    assert parsed.all("script") == [{}] and NASTY_ATTACK in "".join(parsed.text)
    assert "<img" not in "".join(path.read_text() for path in (report / "tables").glob("*.md"))
    shown = "".join(parsed.text)
    assert (
        shown.count("<script>alert(1)") >= 5 and "{{ 7*7 }}" in shown and "49" not in re.findall(r"&amp;(\d+)", shown)
    )
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", (report / "index.html").read_text())
    allowed = {"href", "title", "id", "class", "scope", "data-value", "data-kind", "data-method", "data-net"}
    allowed |= {
        "data-source",
        "data-protocol",
        "aria-label",
        "aria-labelledby",
        "aria-sort",
        "aria-live",
        "role",
        "tabindex",
    }
    allowed |= {"type", "hidden", "name", "value", "content", "charset", "http-equiv", "lang", "src", "alt", "colspan"}
    assert {name for _, found, _ in parsed.elements for name in found} <= allowed  # no style, no on...


def test_the_page_needs_no_network_and_runs_its_own_script_only(parsed):
    (policy,) = (found["content"] for found in parsed.all("meta") if found.get("http-equiv"))
    for kind in ("script", "style"):
        (content,) = ["".join(parsed.contents[kind])]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
    assert not parsed.all("link") and not parsed.all("iframe")
    assert all(found["src"].startswith("data:image/") for found in parsed.all("img"))
    assert "://" not in "".join(parsed.contents["script"] + parsed.contents["style"])


def test_the_page_can_be_used_with_a_keyboard_and_a_screen_reader(parsed):
    assert parsed.all("html")[0]["lang"] == "en"
    tags = [tag for tag, _, _ in parsed.elements]
    assert tags.count("main") == tags.count("h1") == tags.count("header") == tags.count("footer") == 1
    first = next(found for tag, found, _ in parsed.elements if tag in ("a", "button", "select"))
    assert first == {"class": "skip", "href": "#main"}
    assert tags.count("caption") == tags.count("table") and all("scope" in found for found in parsed.all("th"))
    assert all("alt" in found for found in parsed.all("img"))
    sorts = [around for tag, found, around in parsed.elements if tag == "button" and around[-1] == "th"]
    assert len(sorts) == len([1 for found in parsed.all("th") if found.get("aria-sort") == "none"]) > 10
    assert all("label" in around for tag, _, around in parsed.elements if tag == "select")
    regions = [found for found in parsed.all("div") if found.get("class") == "scroll"]
    assert regions and all(found["tabindex"] == "0" and found["role"] == "region" for found in regions)
    assert {found["name"] for found in parsed.all("select")} == {"source", "method", "net", "protocol"}
    protocols = {found.get("data-protocol") for found in parsed.all("td")}
    assert {"aa_fast_20", "aa_standard", "other"} <= protocols
    assert "(best)" in "".join(parsed.text) and "not run" in "".join(parsed.text)


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_has_enough_contrast_in_light_and_dark():
    style = pathlib.Path(page.__file__).with_name("page.css").read_text()
    schemes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for block in re.findall(r"\{([^{}]*--page: #\w{6}[^{}]*)\}", style)
    ]
    assert len(schemes) == 3 and schemes[1] == schemes[2]
    for scheme in schemes:
        for ink in ("ink", "soft", "link", "warn"):
            for ground in ("page", "band", "best", "second"):
                assert contrast(scheme[ink], scheme[ground]) >= 4.5, (ink, ground, scheme)


def test_both_protocols_the_papers_values_and_what_is_missing_are_there(parsed):
    text = " ".join("".join(parsed.text).split())
    for words in (
        "AA (fast, 20 steps)",
        "AA (standard)",
        "paper 70.13",
        "12.03 %",
        "1.28 %",
        "comparisons on the same",
    ):
        assert words in text, words
    assert "--source=" in text and "SAT (IN)" in text and "tools.reproduce table1" in text
    assert "ST (NF)" in text  # of the study


def test_the_files_beside_the_page(report):
    names = {path.relative_to(report).as_posix() for path in report.rglob("*") if path.is_file()}
    assert {"index.html", "tables/table1.md", "tables/table1.csv", "tables/table3.md"} <= names
    assert any(name.startswith("figures/") and name.endswith(".svg") for name in names)
    assert not any(files.is_temporary(os.path.basename(name)) for name in names)


def test_a_report_is_made_again_in_its_place(runs, tmp_path, no_figures, capsys):
    out = tmp_path / "out"
    assert call(runs, f"--output={out}") == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "tables" / "table9.md").write_text("of an older version")
    assert call(runs, f"--output={out}") == 0
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def folder(path):
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda out: (folder(out) / "thesis.tex").write_text("x"), "holds thesis.tex"),
        (lambda out: (folder(out) / "index.html").write_text("<html>my page"), "holds index.html"),
        (lambda out: (folder(folder(out) / "tables") / "data.xlsx").write_text("x"), "holds tables/data.xlsx"),
        (lambda out: out.write_text("x"), "cannot be written to"),
    ],
)
def test_an_output_with_something_else_in_it_is_refused(runs, tmp_path, no_figures, capsys, make, words):
    out = tmp_path / "out"
    make(out)
    before = sorted(tmp_path.rglob("*"))
    assert call(runs, f"--output={out}") == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert words in complaint and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--output=out"], "nowhere is not a folder"),
        (["empty", "--output=out"], "holds no result files"),
        (["empty"], "--output"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert call(*arguments) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_full_disk_leaves_the_page_as_it_was(runs, tmp_path, no_figures, capsys, monkeypatch):
    out = tmp_path / "out"
    assert call(runs, f"--output={out}") == 0
    before = (out / "index.html").read_bytes()

    def full(path, content, sync=True):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(files, "write", full)
    assert call(runs, f"--output={out}") == 1
    assert "the disk is full" in capsys.readouterr().err and (out / "index.html").read_bytes() == before


def test_a_document_gets_its_tables(runs, tmp_path, no_figures, capsys):
    document = tmp_path / "RESULTS.md"
    start = "# Results\n<!-- table table3 -->\nold\n<!-- end -->\ntext\n<!-- table digits -->\n<!-- end -->\n"
    document.write_text(start + "<!-- table accelerator -->\n<!-- end -->\n")
    assert call(runs, f"--output={tmp_path / 'out'}", f"--into={document}") == 0
    text = document.read_text()
    assert "| SAT" in text and "ST \\(NF" not in text and "No accelerator has been measured yet" in text
    assert "old" not in text and "\ntext\n" in text and (tmp_path / "out/tables/table3.md").read_text().strip() in text
    document.write_text(start + "<!-- table table7 -->\n<!-- end -->\n")
    assert call(runs, f"--output={tmp_path / 'out'}", f"--into={document}") == 2
    assert "no result for <!-- table table7 -->" in capsys.readouterr().err and "old" in document.read_text()


@pytest.mark.parametrize("text", ["no place for a table", "<!-- table table3 -->\nno end"])
def test_a_document_without_a_place_is_refused_before_anything_is_written(runs, tmp_path, no_figures, capsys, text):
    document = tmp_path / "own.md"
    document.write_text(text)
    assert call(runs, f"--output={tmp_path / 'out'}", f"--into={document}") == 2
    assert "<!-- " in capsys.readouterr().err and document.read_text() == text
    assert not list(tmp_path.glob("out/*"))


def test_results_md_is_what_the_command_makes_of_the_committed_files(tmp_path, no_figures):
    document = tmp_path / "RESULTS.md"
    document.write_text((ROOT / "RESULTS.md").read_text())
    assert call(ROOT / "benchmarks/results", f"--output={tmp_path / 'out'}", f"--into={document}") == 0
    made, hint = (
        document.read_text(),
        "run python -m nofrost_jax.report benchmarks/results --output=OUT --into=RESULTS.md",
    )
    assert made == (ROOT / "RESULTS.md").read_text(), hint


def test_without_jinja_the_command_says_what_to_install(runs, tmp_path, no_figures, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert call(runs, f"--output={tmp_path / 'out'}") == 2
    assert 'pip install "nofrost_jax[report]"' in capsys.readouterr().err


def test_names_that_are_not_unicode(tmp_path, no_figures):
    runs = tmp_path / "runs"
    run(runs / os.fsdecode(b"\xff\xfe"), "sat", (110, 20))
    for path in list(runs.glob("*/evaluations/paper.json")):
        content = json.loads(path.read_text())
        content["checkpoint"]["path"] = "\ud800"
        path.write_text(json.dumps(content))
    assert call(runs, f"--output={tmp_path / 'out'}") == 0
    parsed = Page((tmp_path / "out/index.html").read_text())
    (link,) = {found["href"] for found in parsed.all("a") if found["href"].endswith("paper.json")}
    assert (tmp_path / "out" / os.fsdecode(urllib.parse.unquote_to_bytes(link))).exists()
