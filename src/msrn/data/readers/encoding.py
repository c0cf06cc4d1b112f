"""Decode the text of a table, and say which encoding it may have where it is not UTF-8."""

from __future__ import annotations

import codecs
import io
import re
from pathlib import Path

from msrn.data.looks import look_of
from msrn.errors import DataError, reason

__all__ = ["EXPECTED", "decoded"]

EXPECTED = "expected a CSV, TSV or JSONL file in UTF-8"


def decoded(content: bytes, path: Path, encoding: str) -> tuple[str, str]:
    """The text of a file with line ends as line feeds, and a note on its encoding.

    Raises:
        DataError: the bytes are no text in this encoding, or there is no such encoding.
    """
    note = f"encoding {encoding}" if encoding else ""
    if not encoding and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding, note = "utf-16", "encoding UTF-16"
    try:
        text = io.TextIOWrapper(io.BytesIO(content), encoding=encoding or "utf-8-sig").read()
        if "\0" in text:
            raise UnicodeError("zero bytes occur")
        return text, note
    except LookupError:
        raise DataError(f"there is no encoding {encoding!r}", "data.reader.encoding", "utf-8, utf-16, cp1252") from None
    except (UnicodeDecodeError, UnicodeError) as error:
        if look := look_of(content, path):
            hint = look.hint
        elif b"\0" in content[:200]:
            hint = f"{EXPECTED}; zero bytes occur: if it is UTF-16, pass --data.reader.encoding utf-16-le"
        elif not encoding and _is_western(content):
            hint = f"{EXPECTED}; it is likely Windows-1252: pass --data.reader.encoding cp1252, or save it as UTF-8"
        elif not encoding:
            hint = f"{EXPECTED}; save it as UTF-8, or name its encoding, as in --data.reader.encoding shift_jis "
            hint += "(gb18030, big5, euc_kr, cp1251, cp1250, mac_roman)"
        else:
            hint = EXPECTED
        raise DataError(f"cannot read the table: {reason(error)}", str(path), hint) from error


def _is_western(content: bytes) -> bool:
    """Whether the bytes beyond ASCII are single accented letters or marks, as Windows-1252 writes them."""
    runs = re.findall(rb"[\x80-\xff]+", content)
    return all(len(run) < 3 and re.fullmatch(rb"[\xc0-\xff\x91-\x97\xa0\xa7\xb0]+", run) for run in runs)
