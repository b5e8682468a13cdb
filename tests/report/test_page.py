"""The page: well-formed, self-contained, accessible, and no text of a result file is more than text."""

import base64
import hashlib
import html.parser
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse

import pytest

from nofrost_jax import files
from nofrost_jax.report import page
from tests.conftest import ROOT
from tests.report.reported import NASTY_ATTACK, call, run

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
