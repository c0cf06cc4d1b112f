"""Tables whose cells need a word of their owner: other codes, shares, class numbers, labels over several columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msrn.data.manifest import Manifest
from msrn.data.readers.table import Options, read_table
from msrn.errors import DataError, LabelError
from msrn.labels.space import LabelSpace

Images = Callable[..., Path]
P = tuple(f"p{number}.jpg" for number in range(4))


def table(folder: Path, text: str, labels: LabelSpace | None = None, **options: Any) -> Manifest:
    (folder / "t.csv").write_text(text)
    return read_table(folder / "t.csv", labels, options=Options(**options))


def refusal(folder: Path, text: str, labels: LabelSpace | None = None, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        table(folder, text, labels, **options)
    return str(caught.value)


@pytest.mark.parametrize("names", [("label1", "label2"), ("tag_1", "tag_2"), ("Label 1", "Label 2")])
def test_labels_over_numbered_columns_are_joined_and_told(images: Images, names: tuple[str, str]) -> None:
    text = f"image,{','.join(names)},age\np0.jpg,sea,boat,7\np1.jpg,sea,,7\np2.jpg,-,,7\np3.jpg,,,7\n"
    data = table(images(*P), text)
    assert data.codes().tolist() == [[1, 1], [0, 1], [0, 0], [-1, -1]]
    assert f"labels in the columns {', '.join(names)}" in data.reading
    assert "columns not read: 'age'" in data.reading


def test_numbered_columns_of_ones_and_zeros_are_labels(images: Images) -> None:
    data = table(images(*P[:2]), "image,Label 1,Label 2\np0.jpg,1,0\np1.jpg,0,1\n")
    assert data.labels.names == ("Label 1", "Label 2")


def test_columns_of_names_can_be_asked_for_together(images: Images) -> None:
    text = "image,first,second\np0.jpg,sea,boat\np1.jpg,boat,sand\np2.jpg,sand,\n"
    assert "--data.reader.label_column first,second" in refusal(images(*P[:3]), text)
    data = table(images(*P[:3]), text, label_column="first,second")
    assert [record.positives for record in data.records] == [("sea", "boat"), ("boat", "sand"), ("sand",)]


@pytest.mark.parametrize("cells", [("TRUE", "FALSE"), ("Yes", "n"), ("T", "f"), ("1.00", "0.0"), ("1e0", "+0")])
def test_usual_spellings_of_one_and_zero(images: Images, cells: tuple[str, str]) -> None:
    data = table(images(*P[:2]), f"image,sea,boat\np0.jpg,{cells[0]},{cells[1]}\np1.jpg,{cells[1]},{cells[0]}\n")
    assert data.codes().tolist() == [[1, 0], [0, 1]]


def test_decimal_commas_are_numbers_and_no_list_of_labels(images: Images) -> None:
    data = table(images(*P[:2]), "image;sea;boat\np0.jpg;1,0;0,0\np1.jpg;0,0;1,0\n")
    assert data.labels.names == ("sea", "boat")
    assert data.codes().tolist() == [[1, 0], [0, 1]]
    message = refusal(images(*P[:2]), "image;sea;boat\np0.jpg;0,8;0,1\np1.jpg;0,2;1,0\n")
    assert "--data.reader.threshold 0.5" in message


def test_cells_of_numbered_columns_may_hold_several_names(images: Images) -> None:
    data = table(images(*P[:2]), "image,label1,label2\np0.jpg,sea|boat,sand\np1.jpg,sea,\n")
    assert [record.positives for record in data.records] == [("sea", "boat", "sand"), ("sea",)]
    assert "separated by '|' in 1 of 3 cells" in data.reading


@pytest.mark.parametrize(("cells", "threshold"), [(("0.8", "0.1"), 0.5), (("80%", "10 %"), 0.5), (("3", "0"), 1)])
def test_shares_and_counts_are_read_from_a_threshold_on(
    images: Images, cells: tuple[str, str], threshold: float
) -> None:
    text = f"image,sea,boat\np0.jpg,{cells[0]},{cells[1]}\np1.jpg,{cells[1]},{cells[0]}\np2.jpg,,-1\n"
    assert f"--data.reader.threshold {threshold:g}" in refusal(images(*P[:3]), text)
    data = table(images(*P[:3]), text, threshold=threshold, minus_one="unknown")
    assert data.codes().tolist() == [[1, 0], [0, 1], [-1, -1]]


def test_levels_in_one_of_several_columns_are_counts_and_ages_are_not(images: Images) -> None:
    text = "image,sea,boat\np0.jpg,1,2\np1.jpg,0,0\n"
    assert "--data.reader.threshold 1" in refusal(images(*P[:2]), text)
    assert "--data.reader.ignored_columns boat" in refusal(images(*P[:2]), text.replace("0,0", "0,41"))


def test_other_words_for_present_and_absent_are_options_that_the_refusal_names(images: Images) -> None:
    marks = "image,sea,boat\np0.jpg,x,\np1.jpg,,x\n"
    message = refusal(images(*P[:2]), marks)
    assert "--data.reader.present_words x --data.reader.blank absent" in message
    data = table(images(*P[:2]), marks, present_words="x", blank="absent")
    assert data.codes().tolist() == [[1, 0], [0, 1]]
    words = "image,sea,boat\np0.jpg,Pos,neg\np1.jpg,neg,unsure\n"
    assert "'Pos', 'neg', 'unsure'" in refusal(images(*P[:2]), words)
    data = table(images(*P[:2]), words, present_words="pos", absent_words="neg", unknown_words="unsure")
    assert data.codes().tolist() == [[1, 0], [0, -1]]


def test_words_for_none_of_the_labels_in_a_column_of_names(images: Images) -> None:
    text = "image,labels\np0.jpg,sea\np1.jpg,None\np2.jpg,unsure\np3.jpg,boat|none\n"
    data = table(images(*P), text, absent_words="none", unknown_words="unsure")
    assert data.labels.names == ("boat", "sea")
    assert data.codes().tolist() == [[0, 1], [0, 0], [-1, -1], [1, 0]]


def test_class_numbers_take_their_names_from_the_label_file(images: Images) -> None:
    text = "Id,Target\np0,2 0\np1,1\np2,0\n"
    names = LabelSpace(["plasma", "golgi", "nucleus"])
    folder = images(*P[:3])
    assert "labels are class numbers" in table(folder, text).reading
    assert "--data.reader.class_numbers from_0" in refusal(folder, text, names)
    data = table(folder, text, names, class_numbers="from_0")
    assert [record.positives for record in data.records] == [("nucleus", "plasma"), ("golgi",), ("plasma",)]
    assert "0 is 'plasma'" in data.reading
    assert "from 1 to 3, got '0'" in refusal(folder, text, names, class_numbers="from_1")
    assert "--data.labels NAMES.txt" in refusal(folder, text, class_numbers="from_0")
    listed = 'image,labels\np0.jpg,"[2, 0]"\np1.jpg,[1]\n'
    assert "class_numbers from_0" in refusal(folder, listed)
    long = "image,label,present\np0.jpg,2,1\np0.jpg,1,0\np1.jpg,1,1\np1.jpg,0,1\n"
    assert table(folder, long, names, class_numbers="from_0").codes().tolist() == [[-1, 0, 1], [1, 1, -1]]
    plain = "p0.jpg 2 0\np1.jpg 1\n"
    assert table(folder, plain, names, class_numbers="from_0").records[0].positives == ("nucleus", "plasma")


def test_rows_of_one_image_with_a_column_per_label_are_joined_if_asked_for(images: Images) -> None:
    text = "image,sea,boat,sand\np0.jpg,1,0,\np0.jpg,1,1,0\np1.jpg,0,1,1\n"
    folder = images(*P[:2])
    assert "--data.reader.repeated join" in refusal(folder, text)
    data = table(folder, text, repeated="join")
    assert data.codes().tolist() == [[1, -1, 0], [0, 1, 1]]
    assert "1 labels unknown because rows contradict" in data.reading


def test_an_id_is_the_image_where_the_other_columns_are_labels(images: Images) -> None:
    folder = images("1.png", "2.png")
    assert [r.image for r in table(folder, "ID,risk,DR\n1,1,0\n2,0,1\n").records] == ["1.png", "2.png"]
    assert [r.positives for r in table(folder, "id,labels\n1,sea\n2,boat\n").records] == [("sea",), ("boat",)]


@pytest.mark.parametrize("mark", [";", "|"])
def test_the_separator_is_the_one_that_all_lines_share(images: Images, mark: str) -> None:
    text = mark.join(["image", "sea, blue", "boat"]) + f"\np0.jpg{mark}1{mark}0\np1.jpg{mark}0{mark}1\n"
    assert table(images(*P[:2]), text).labels.names == ("sea, blue", "boat")


def test_two_unicode_forms_of_a_name_are_one_label(images: Images) -> None:
    folder = images(*P[:3])
    composed, apart = "B\u00e4r", "Ba\u0308r"
    data = table(folder, f"image,labels\np0.jpg,{composed}\np1.jpg,{apart}\np2.jpg,sea\u200b|sea\n")
    assert data.labels.names == (composed, "sea")
    assert "look the same" in data.reading
    bound = table(folder, f"image,labels\np0.jpg,{apart}\n", LabelSpace([composed, "sea"]))
    assert bound.codes().tolist() == [[1, 0]]
    columns = table(folder, f"image,{apart},sea\np0.jpg,1,0\n", LabelSpace(["sea", composed]))
    assert columns.codes().tolist() == [[0, 1]]
    alone = table(folder, f"image,labels\np0.jpg,{apart}\n")
    assert alone.labels.names == (apart,)


def test_a_label_file_that_is_json_or_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.json").write_text('["sea", "boat"]')
    (tmp_path / "n.yaml").write_text("names:\n  0: sea\n")
    for name in ("n.json", "n.yaml"):
        with pytest.raises(LabelError, match="one label name a line"):
            LabelSpace.read(tmp_path / name)
