"""Write a table (CSV, TSV or JSON lines, by suffix), which is read again and compared before the file is replaced."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

from msrn import registry
from msrn.data.manifest import DIFFICULT, Manifest
from msrn.data.readers.table import JSON_SUFFIXES, table_from_bytes
from msrn.data.writers.contents import image_names, label_states, same_labels, written_text
from msrn.errors import DataError, MsrnError
from msrn.files import refuse_to_overwrite, write_atomically

__all__ = ["Options", "write"]

CELLS = {0: "0", 1: "1", -1: ""}
JSON_CELLS = {0: 0, 1: 1, -1: None}


class Options(registry.Options):
    """The writer of tables has no options."""

    name: str = "table"


def write(options: Options, manifest: Manifest, path: Path, *, force: bool = False) -> str:
    """Write a table: one column of names if that holds everything, or else one column per label.

    Raises:
        DataError: the table cannot hold the labels of the manifest, or the file exists and ``force`` is not set.
    """
    refuse_to_overwrite([path], force=force)
    images, root = image_names(manifest, path.parent)
    problem: MsrnError | None = None
    for text in _forms(manifest, images, path):
        try:
            content = text().encode("utf-8")
            back = table_from_bytes(content, path, root=root)
        except UnicodeEncodeError as error:
            problem = DataError(f"a name is not text: {error}", str(path))
            continue
        except MsrnError as error:
            problem = error
            continue
        problem = None
        if [record.image for record in back.records] == images and same_labels(manifest, back):
            write_atomically(path, content, parents=True)
            return written_text(path, root)
    if problem is not None:
        raise problem
    message = "the table would be read differently: a name is read as something else, or no image has a label"
    raise DataError(message, str(path), "write a manifest: it holds any name")


def _forms(manifest: Manifest, images: list[str], path: Path) -> list[Callable[[], str]]:
    """The texts that may hold the manifest, the more readable first."""
    difficult = int((manifest.codes() == DIFFICULT).any(1).sum())
    if path.suffix.lower() in JSON_SUFFIXES:
        forms = [lambda: _json_lines(manifest, images)]
        return forms if difficult else [*forms, lambda: _json_columns(manifest, images)]
    if difficult:
        message = f"a table has no place for difficult objects, which {difficult:,} images have"
        raise DataError(message, str(path), "write a manifest, JSON lines (.jsonl) or webdataset")
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    return [lambda: _names(manifest, images, separator), lambda: _columns(manifest, images, separator)]


def _names(manifest: Manifest, images: list[str], separator: str) -> str:
    """One column of names."""
    rows = []
    for image, record in zip(images, manifest.records, strict=True):
        all_unknown = len(record.unknown) == len(manifest.labels)
        rows.append([image, "" if all_unknown else "|".join(record.positives) or "-"])
    return _csv([["image", "labels"], *rows], separator)


def _columns(manifest: Manifest, images: list[str], separator: str) -> str:
    """One column per label."""
    codes = manifest.codes()
    rows = [[image, *(CELLS[int(code)] for code in row)] for image, row in zip(images, codes, strict=True)]
    return _csv([["image", *manifest.labels], *rows], separator)


def _csv(rows: list[list[str]], separator: str) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _json_lines(manifest: Manifest, images: list[str]) -> str:
    rows = [{"image": image, **label_states(manifest, index, every=True)} for index, image in enumerate(images)]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _json_columns(manifest: Manifest, images: list[str]) -> str:
    rows = [
        {"image": image, **{name: JSON_CELLS[int(code)] for name, code in zip(manifest.labels, row, strict=True)}}
        for image, row in zip(images, manifest.codes(), strict=True)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)
