"""The page of a data set: its charts show what was counted, names are escaped, and nothing external is loaded."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msrn.data.manifest import Manifest, Record
from msrn.data.readers.table import read_table
from msrn.errors import LabelError
from msrn.labels.cooccurrence import conditional, cooccurrence
from msrn.labels.graph import label_graph
from msrn.labels.space import LabelSpace
from msrn.report import data_set as show
from msrn.report.charts import heat_map, labels_per_image, seriate, size_plot
from msrn.report.data_set import show_data

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements with attributes and text, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text.append((self.open[-1] if self.open else "", data))

    def of(self, tag: str, kind: str = "") -> list[dict[str, str]]:
        return [found for name, found in self.elements if name == tag and kind in ["", *found.get("class", "").split()]]

    def shown(self) -> str:
        return " ".join(" ".join(text for tag, text in self.text if tag != "style").split())


def written(scenes: Path, *names: str) -> list[Manifest]:
    return [read_table(scenes / f"{name}.csv") for name in names]


def without_files(present: np.ndarray, names: list[str] | None = None) -> Manifest:
    labels = LabelSpace(names or [f"label {number}" for number in range(present.shape[1])])
    rows = [Record(f"{i}.jpg", tuple(labels[j] for j in np.flatnonzero(row))) for i, row in enumerate(present)]
    return Manifest(tuple(rows), labels, "train", Path("nowhere"), "drawn at random")


def test_the_page_is_complete_and_loads_nothing_external(scenes: Path) -> None:
    html = show_data(written(scenes, "train", "val", "test"), title="Scenes")
    page = Page(html)
    assert page.open == []  # every element is closed, in order
    assert page.elements[0][0] == "html"
    policy = next(
        meta["content"] for meta in page.of("meta") if "content-security" in meta.get("http-equiv", "").lower()
    )
    assert policy.startswith("default-src 'none'; img-src data:")
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:image/jpeg;base64,"))
    assert not re.search(r"https?:|url\((?!#graph-)|@import", html)


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    evil = [
        "<script>alert(1)</script>",
        '" onload="alert(2)',
        "</style><img src=x onerror=alert(3)>",
        "{{ 7 * 7 }}",
        "a&b",
    ]
    folder = tmp_path / '<b id="x">'
    folder.mkdir()
    names = [f"{number}'\"><svg onload=alert(4)>.jpg" for number in range(5)]
    for number, name in enumerate(names):
        Image.new("RGB", (30, 20), (40 * number, 0, 0)).save(folder / name, "JPEG")
    rows = [Record(name, tuple(evil[: number + 1])) for number, name in enumerate(names)]
    manifest = Manifest(
        (*rows, Record("<u>gone</u>.jpg", (evil[0],))), LabelSpace(evil), "<i>train</i>", folder, evil[2]
    )
    page = Page(show_data([manifest, manifest], title=evil[0]))
    assert page.open == []
    assert not {"script", "u"} & {tag for tag, _ in page.elements}
    assert len(page.of("style")) == 1
    assert {image["src"][:11] for image in page.of("img")} == {"data:image/"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
    shown = page.shown()
    assert all(name in shown for name in evil)
    assert "49" not in [word.strip() for word in shown.split()]
    assert any(names[0] in span.get("title", "") for span in page.of("span"))


def test_counts_of_all_labels_and_splits_are_in_the_table(scenes: Path) -> None:
    splits = written(scenes, "train", "val")
    html = show_data(splits, samples=0)
    rows = re.findall(r"<tr><td>(.*?)</td><td>(\d+)</td><td>([\d.]+)</td><td>(\d+)</td>", html)
    names = splits[0].labels.names
    expected = {name: [sum(name in record.positives for record in split.records) for split in splits] for name in names}
    assert {name: [int(train), int(val)] for name, train, _, val in rows} == expected
    assert all(float(share) == pytest.approx(100 * int(train) / 48, abs=0.006) for _, train, share, _ in rows)
    assert [int(train) for _, train, _, _ in rows] == sorted((int(train) for _, train, _, _ in rows), reverse=True)
    assert "<img" not in html


def test_edges_and_isolated_labels_are_those_of_the_label_graph(scenes: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, val = written(scenes, "train", "val")
    page = Page(show_data([val, train], samples=0, threshold=0.6))  # whatever order they are given in
    counts, totals, *_ = cooccurrence(train.targets("positive"))
    graph = label_graph(counts, totals, labels=train.labels, threshold=0.6)
    edges = [text for tag, text in page.text if tag == "title" and text.endswith("with both")]
    expected = [
        f"{a} → {b}: {100 * share:.0f} %, {graph.counts[train.labels.column(a), train.labels.column(b)]} image"
        for a, b, share in graph.edges()
    ]
    assert sorted(edge.partition(" with")[0].removesuffix("s") for edge in edges) == sorted(expected)
    assert len(edges) > 3
    assert f"({len(graph.edges())} edges, counted in train)" in page.shown()
    discs = {text.partition(":")[0] for tag, text in page.text if tag == "title" and re.search(r": \d+ images?$", text)}
    assert discs == set(train.labels) - set(graph.isolated)
    assert len(graph.isolated) > 0
    chips = [text for tag, text in page.text if tag == "li"]
    assert set(graph.isolated) <= set(chips)
    with pytest.raises(LabelError, match="above 0"):
        show_data([train], samples=0, threshold=0)


def test_samples_show_their_label_and_rare_labels_choose_first(scenes: Path) -> None:
    [train] = written(scenes, "train")
    html = show_data([train], samples=3, seed=5)
    assert html == show_data([train], samples=3, seed=5)
    assert html != show_data([train], samples=3, seed=6)
    grids = re.findall(r"<h3>([\w ]+)<small>([\d,]+)</small></h3>\s*<div class=\"strip\">(.*?)</div>", html, re.DOTALL)
    having = {name: [r for r in train.records if name in r.positives] for name in train.labels}
    often = sorted(having, key=lambda name: (-len(having[name]), train.labels.column(name)))
    assert [name for name, _, _ in grids] == [name for name in often if having[name]]
    for name, count, strip in grids:
        alts = re.findall(r'alt="(.*?)"', strip)
        assert int(count) == len(having[name])
        assert len(alts) == min(3, len(having[name]))
        assert all(name in alt.split(", ") for alt in alts)


def test_thumbnails_are_small_images_of_the_right_shape(tmp_path: Path) -> None:
    sizes = {"wide": (900, 30), "high": (50, 800), "large": (1200, 900), "tiny": (3, 2)}
    for name, size in sizes.items():
        Image.new("RGB", size, "teal").save(tmp_path / f"{name}.png")
    rows = tuple(Record(f"{name}.png", (name,)) for name in sizes)
    page = Page(show_data([Manifest(rows, LabelSpace(sizes), "train", tmp_path)]))
    shown = page.of("img")
    assert len(shown) == 4
    for image in shown:
        with Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))) as thumbnail:
            assert thumbnail.size == (int(image["width"]), int(image["height"]))
            assert thumbnail.width <= show.MAX_WIDTH
            assert thumbnail.height <= show.HEIGHT
            wide, high = sizes[image["alt"]]
            assert thumbnail.width / thumbnail.height == pytest.approx(wide / high, rel=0.2)


def test_images_that_cannot_be_read_are_counted_and_do_not_stop_the_page(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    rows = (Record("a.png", ("sea",)), Record("b.png", ("sea",)), Record("gone.png", ("sea",)))
    page = Page(show_data([Manifest(rows, LabelSpace(["sea"]), "train", tmp_path)]))
    assert "2 images could not be read" in page.shown()
    assert len(page.of("span", "gone")) == 2
    assert len(page.of("img")) == 1


def test_of_many_labels_the_most_frequent_are_drawn_and_the_page_states_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "MAX_NAMES", 7)
    rng = np.random.default_rng(0)
    present = rng.random((400, 300)) < np.geomspace(0.3, 0.002, 300)
    page = Page(show_data([without_files(present)], samples=2))
    shown = page.shown()
    assert "the 60 most frequent of 300 labels" in shown
    assert "the 40 most frequent of 300 labels" in shown
    assert len(page.of("rect", "cell")) <= 40 * 39
    assert 1 < int(re.search(r"; (\d+) of 300 labels are drawn", shown)[1]) <= 60  # type: ignore[index]
    assert len([1 for tag, _ in page.elements if tag == "tr"]) == 301
    assert re.search(r"and [\d,]+ more", shown)
    assert len(page.of("h3")) <= show.MAX_SAMPLES // 2


def test_a_data_set_of_one_label_and_no_label_at_all_makes_a_page() -> None:
    page = Page(show_data([without_files(np.zeros((2, 1), bool), ["sea"])]))
    assert "1 without an image in train" in page.shown()
    assert "no label" in page.shown()


def test_unknown_states_are_counted(tmp_path: Path) -> None:
    rows = (Record("a", ("x",), (), ("y",)), Record("b", (), ("x",)))
    shown = Page(show_data([Manifest(rows, LabelSpace(["x", "y"]), "train", tmp_path)], samples=0)).shown()
    assert "25.0 % of all label states are unknown" in shown
    assert "1.00 labels per image" in shown  # difficult ones count


def test_seriation_puts_blocks_side_by_side() -> None:
    block = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
    similarity = (block[:, None] == block).astype(float) + 0.02 * (np.abs(block[:, None] - block) == 1)
    found = block[seriate(similarity)].tolist()
    assert found in ([0] * 3 + [1] * 3 + [2] * 3, [2] * 3 + [1] * 3 + [0] * 3)
    assert seriate(np.zeros((2, 2))) == [0, 1]
    assert sorted(seriate(np.zeros((5, 5)))) == [0, 1, 2, 3, 4]


def test_cells_of_the_heat_map_hold_conditional_probabilities() -> None:
    target = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]])
    counts, totals, *_ = cooccurrence(target)
    figure = heat_map(["a", "b", "c"], counts, totals, conditional(counts, totals), [0, 1, 2])
    cells = {(figure.names[cell.y], figure.names[cell.x]): cell for cell in figure.cells}
    assert {place: (cell.share, cell.tooltip) for place, cell in cells.items()} == {
        ("a", "b"): (0.667, "a → b: 67 % (2 of 3)"),
        ("b", "a"): (1.0, "b → a: 100 % (2 of 2)"),
    }


def test_the_histogram_counts_each_image_once() -> None:
    present = np.tri(16, 15, -1, dtype=bool)  # 0 to 15 labels
    figure = labels_per_image([without_files(present)])
    assert [entry.name for entry in figure.bins][-2:] == ["11", "12+"]
    assert [entry.bars[0].count for entry in figure.bins] == [1] * 12 + [4]
    assert sum(entry.bars[0].share for entry in figure.bins) == pytest.approx(100, abs=1)


def test_sizes_are_discs_where_their_width_and_height_are() -> None:
    figure = size_plot([(400, 300)] * 9 + [(100, 200)])
    assert [tick.text for tick in figure.ticks] == ["0", "100", "200", "300", "400", "500"]
    first, second = figure.discs
    assert (first.x, first.y) == (pytest.approx(300 * 400 / 500), pytest.approx(300 * (1 - 300 / 500)))
    assert (second.x, second.y) == (pytest.approx(60), pytest.approx(180))
    assert (first.radius - 2) ** 2 == pytest.approx(9 * (second.radius - 2) ** 2, rel=0.1)
    assert (figure.most_frequent, figure.sizes, figure.median) == ((400, 300, 9), 2, (400, 300))
    assert size_plot([]).discs == ()


@pytest.mark.parametrize("largest", [1, 32, 384, 640, 999, 1000, 1001, 8000, 60_000])
def test_axes_reach_the_largest_size_in_round_steps(largest: int) -> None:
    figure = size_plot([(largest, 1)])
    assert 0 < figure.discs[0].x <= figure.side
    assert 2 <= len(figure.ticks) <= 10
    texts = [int(tick.text.replace(",", "")) for tick in figure.ticks]
    assert texts[0] == 0
    assert texts[1] == int(f"{texts[1]:.0e}".split("e")[0]) * 10 ** (len(str(texts[1])) - 1)  # one digit, then zeros
