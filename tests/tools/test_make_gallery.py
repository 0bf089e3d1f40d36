"""The gallery shows every bundle with pictures that are there, and every claim."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import make_gallery
import pytest

BUNDLES = make_gallery.REPOSITORY / "bundles"


class Page(HTMLParser):
    """What the tests want to know of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.articles: list[str] = []
        self.pictures: list[Path] = []
        self.links: list[str] = []
        self.text = ""
        self.folder = path.parent
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "article":
            self.articles.append(str(values["id"]))
        if tag == "img":
            self.pictures.append(self.folder / str(values["src"]))
        if tag == "a":
            self.links.append(str(values["href"]))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """Two bundles without their weights' bulk."""
    for name in ("oneshot_landmark_detection", "fbpaug_ct_segmentation"):
        shutil.copytree(BUNDLES / name, tmp_path / "bundles" / name)
    return tmp_path


def test_every_bundle_has_an_article_with_a_picture_that_is_there(tmp_path: Path) -> None:
    out = tmp_path / "gallery" / "index.html"
    assert make_gallery.main(["--out", str(out)]) == 0
    page = Page(out)
    assert sorted(page.articles) == sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/metadata.json"))
    assert page.articles[0] == "synthseg_brain_segmentation"  # the first of README.md
    assert len(page.pictures) == 1 + 2 * len(page.articles)
    assert all(path.is_file() for path in page.pictures)
    assert {f"#{name}" for name in page.articles} <= set(page.links)
    assert list(out.parent.iterdir()) == [out]


def test_every_claim_is_listed_with_its_outcome_and_reason(some: Path) -> None:
    out = some / "docs" / "index.html"
    make_gallery.main(["--bundles", str(some / "bundles"), "--out", str(out)])
    text = Page(out).text
    for path in some.glob("bundles/*/docs/claims.json"):
        for run in json.loads(path.read_text())["runs"].values():
            for claim in run["claims"]:
                assert claim["sentence"] in text
                assert claim["reason"] in text
                assert all(part["what"] in text for part in claim["measured"])


def test_the_papers_figures_stand_beside_the_measured_ones(some: Path) -> None:
    make_gallery.main(["--bundles", str(some / "bundles"), "--out", str(some / "index.html")])
    text = (some / "index.html").read_text()
    assert (
        "<td>agreement, fbpaug minus baseline</td>"
        '<td data-column="paper"><b>+0.38</b><span>Dice of pairs of masks 0.92 against 0.54</span></td>'
    ) in text
    record = json.loads((some / "bundles/fbpaug_ct_segmentation/docs/paper_figures.json").read_text())
    assert f"Paper: {record['data']}. " in Page(some / "index.html").text


def test_a_figure_of_the_paper_for_what_was_not_measured_is_refused(some: Path) -> None:
    path = some / "bundles/fbpaug_ct_segmentation/docs/paper_figures.json"
    record = json.loads(path.read_text())
    record["claims"]["1"]["agreement of nothing"] = {"paper": "1", "from": "nowhere"}
    path.write_text(json.dumps(record))
    with pytest.raises(
        SystemExit, match=r"paper_figures\.json must name what .* measured, got '1: agreement of nothing'"
    ):
        make_gallery.main(["--bundles", str(some / "bundles"), "--out", str(some / "index.html")])


def test_every_bundle_says_what_its_paper_reports() -> None:
    for path in BUNDLES.glob("*/docs/claims.json"):
        record = json.loads(path.with_name("paper_figures.json").read_text())
        assert record["data"]
        figures = [figure for claim in record["claims"].values() for figure in claim.values()]
        assert figures
        assert all(set(figure) == {"paper", "from"} and all(figure.values()) for figure in figures)


def test_speed_size_and_licences_are_told_with_their_setting(some: Path) -> None:
    make_gallery.main(["--bundles", str(some / "bundles"), "--out", str(some / "index.html")])
    text = Page(some / "index.html").text
    speed = json.loads((some / "bundles/fbpaug_ct_segmentation/docs/speed.json").read_text())
    assert f"s of processor time per file, all but start-up included ({speed['input']}, " in text
    assert speed["machine"]["cpu"] in text
    assert "weights Apache-2.0; training data Apache-2.0" in text


def test_every_bundle_of_the_repository_was_timed() -> None:
    assert not [path.name for path in BUNDLES.iterdir() if not (path / "docs/speed.json").is_file()]


def test_markup_in_metadata_is_shown_as_text(some: Path) -> None:
    path = some / "bundles/oneshot_landmark_detection/configs/metadata.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({**metadata, "description": "<script>alert(1)</script>"}))
    make_gallery.main(["--bundles", str(some / "bundles"), "--out", str(some / "index.html")])
    assert "<script" not in (some / "index.html").read_text()
    assert "<script>alert(1)</script>" in Page(some / "index.html").text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("docs/README.md", "no picture", "README.md must show a picture"),
        ("docs/README.md", "![a](lost.png)", "shows lost.png, which is not in"),
        ("configs/metadata.json", "{", "metadata.json must be a JSON object"),
    ],
)
def test_a_broken_bundle_is_named_and_no_page_is_written(some: Path, file: str, content: str, message: str) -> None:
    (some / "bundles/oneshot_landmark_detection" / file).write_text(content)
    with pytest.raises(SystemExit, match=message):
        make_gallery.main(["--bundles", str(some / "bundles"), "--out", str(some / "index.html")])
    assert not (some / "index.html").exists()


def test_a_folder_without_bundles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="must hold bundles, got none"):
        make_gallery.main(["--bundles", str(tmp_path), "--out", str(tmp_path / "index.html")])
