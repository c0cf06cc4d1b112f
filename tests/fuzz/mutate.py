"""Damage valid files: bytes, text, JSON trees, and the insides of containers whose checksums are made right again.

Everything is drawn from the ``random.Random`` that is passed, so a case is known by its kind, seed and number.
"""

from __future__ import annotations

import copy
import io
import json
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

__all__ = ["FORMS", "mutated"]

Mutator = Callable[[bytes, Random], bytes]

LONG = "long" * 1250  # 5,000 characters
WORDS = (
    *("", " ", "-", "?", "|", ";", ",", "\t", "\n", "\r", "\0", "\x1b[2J", "\x7f", "\x85", "\u2028", "\ufeff"),
    *("\u202e", "..", "../secret.png", "../../../../etc/passwd", "/etc/passwd", "/dev/zero", "file:///etc/passwd"),
    *("a.tar::b.png", "http://127.0.0.1/a.png", "C:\\a.png", "%2e%2e/secret.png", "a.png/b", "~", "$HOME", "{a,b}"),
    *("*", "[a]", "a\\b", "0", "1", "-1", "1.5", "1e999", "-1e999", "nan", "inf", "1e-400", "9" * 25, "9" * 5000),
    *("0x10", "1_000", "١", "true", "null", "None", "[]", "{}", "['a'", "['\\d']", '["a", 1]', "{[1]}"),
    *("(" * 300, "[" * 3000, '{"a":' * 3000, "&amp;", "&a;", "<!DOCTYPE x>", "<a>", "</a>", "<![CDATA[", "]]>"),
    *("*a", "&a [*a]", "!!python/name:os.system ''", "=1+1", "é", "e\u0301", "\U0001f600", LONG),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**63), 10**400, 1.5, 1e308, float("inf"), float("nan")),
    *(-0.0, "", " ", "a", "1", "\0", "\ud800", "a\nb", "\x1b[31m", "../secret.png", "/etc/passwd", "[1]", LONG),
    *([], [[]], [None], [1, "a"], ["a", "a"], {}, {"a": 1}, {"": None}, [{}], {"a": {"b": []}}),
)
NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def mutated(content: bytes, form: str, rng: Random) -> bytes:
    """The content after one to several random changes."""
    for _ in range(1 + (rng.random() < 0.4) + (rng.random() < 0.2) * rng.randrange(6)):
        content = rng.choice(FORMS[form])(content, rng)
    return content


# ----------------------------------------------------------------------------------------------------------- bytes


def _flip(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _number(content: bytes, rng: Random) -> bytes:
    """An extreme number over some bytes, in either order."""
    size = rng.choice((1, 2, 4, 8))
    value = (rng.choice(NUMBERS) % 256**size).to_bytes(size, rng.choice(("little", "big")))
    at = _place(content, rng)
    return content[:at] + value + content[at + size :]


def _slices(content: bytes, rng: Random) -> bytes:
    """Truncated, cut, doubled, swapped or overwritten parts."""
    one, two = sorted((_place(content, rng), _place(content, rng)))
    part = content[one : min(two, one + 4096)]
    return rng.choice(
        (
            content[:one],
            content[:one] + content[one + rng.randrange(1, 64) :],
            content[:one] + part * rng.choice((2, 2, 50)) + content[one + len(part) :],
            content[two:] + content[:two],
            content[:one] + rng.randbytes(rng.randrange(1, 32)) + content[two:],
            content[:one] + part[::-1] + content[one + len(part) :],
            content[:one] + bytes(len(part)) + content[one + len(part) :],
        )
    )


def _place(content: bytes, rng: Random) -> int:
    """Often near the start, where the headers are."""
    limit = len(content) if rng.random() < 0.6 else min(len(content), 256)
    return rng.randrange(limit + 1)


# ------------------------------------------------------------------------------------------------------------ text

_TOKEN = re.compile(rb"[\w.+-]+|[^\w\s]|\s")


def _token(content: bytes, rng: Random) -> bytes:
    """A word, number or sign replaced by a hostile one, or the same put beside it."""
    tokens = list(_TOKEN.finditer(content))
    if not tokens:
        return _word(rng)
    found = rng.choice(tokens)
    keep = rng.random() < 0.25
    return content[: found.end() if keep else found.start()] + _word(rng) + content[found.end() :]


def _swap(content: bytes, rng: Random) -> bytes:
    """Two tokens exchanged."""
    tokens = list(_TOKEN.finditer(content))
    if len(tokens) < 2:
        return content
    one, two = sorted(rng.sample(tokens, 2), key=lambda token: token.start())
    return content[: one.start()] + two[0] + content[one.end() : two.start()] + one[0] + content[two.end() :]


def _lines(content: bytes, rng: Random) -> bytes:
    """A line removed, repeated, moved, emptied or made of hostile words."""
    lines = content.split(b"\n")
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines[to:to] = [lines[at]] * rng.choice((1, 1, 200))
        case 2:
            lines[at], lines[to] = lines[to], lines[at]
        case 3:
            lines[at] = b""
        case _:
            lines[at] = rng.choice((b",", b"\t", b" ", b"|")).join(_word(rng) for _ in range(rng.randrange(1, 5)))
    return b"\n".join(lines)


def _encoded(content: bytes, rng: Random) -> bytes:
    """The same text in another encoding, or with other line ends."""
    text = content.decode("utf-8", "replace")
    coding = rng.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7"))
    return rng.choice((text.encode(coding, "replace"), content.replace(b"\n", b"\r\n"), content.replace(b"\n", b"\r")))


def _word(rng: Random) -> bytes:
    return rng.choice(WORDS).encode("utf-8")


# ------------------------------------------------------------------------------------------------------------ JSON


def _tree(content: bytes, rng: Random) -> bytes:
    """One value of a JSON tree replaced, removed, moved or wrapped; of JSON lines, in one line."""
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    for before, part, after in ((b"", content, b""), (_join(lines[:at], end=True), lines[at], _join(lines[at:][1:]))):
        try:
            changed = json.dumps(changed_tree(json.loads(part), rng))
        except (ValueError, RecursionError):
            continue
        return before + changed.encode() + after
    return _token(content, rng)


def _join(lines: list[bytes], *, end: bool = False) -> bytes:
    """Lines with a line feed after each, or before each."""
    return b"".join(line + b"\n" if end else b"\n" + line for line in lines)


def changed_tree(tree: Any, rng: Random) -> Any:
    """A tree of plain values with one of its values changed."""
    holder = {"": tree}
    places = _places(holder)
    parent, key = rng.choice(places)
    match rng.randrange(6):
        case 0 if parent is not holder:
            del parent[key]
        case 1:
            parent[key] = [parent[key]]
        case 2:
            other, name = rng.choice(places)
            parent[key] = copy.deepcopy(other[name])
        case 3 if isinstance(parent, dict) and parent is not holder:
            parent[rng.choice(WORDS)] = parent.pop(key)
        case _:
            parent[key] = rng.choice(VALUES if rng.random() < 0.7 else WORDS)
    return holder.get("")


def _places(value: Any) -> list[tuple[Any, Any]]:
    found = []
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        found.append((value, key))
        if isinstance(value[key], dict | list):
            found += _places(value[key])
    return found


# ------------------------------------------------------------------------------------------------------ containers

ADDED = (b"acTL", b"fcTL", b"fdAT", b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"sBIT", b"zTXt", b"pHYs")
"""Chunks of PNG that are put into files."""


def _png(content: bytes, rng: Random) -> bytes:
    """A chunk changed, moved, doubled or made anew, with its checksum right."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return _flip(content, rng)
    place = rng.randrange(len(chunks))
    kind, data = chunks[place]
    match rng.randrange(5):
        case 0:
            del chunks[place]
        case 1:
            chunks.insert(rng.randrange(len(chunks) + 1), (kind, data))
        case 2 if kind == b"IDAT":
            try:
                data = zlib.compress(_slices(zlib.decompress(data), rng))
            except zlib.error:
                data = b""
            chunks[place] = (kind, data)
        case 3:
            kind = rng.choice(
                (b"acTL", b"fcTL", b"fdAT", b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"sBIT", b"zTXt", b"pHYs")
            )
            chunks.insert(1, (kind, rng.randbytes(rng.choice((0, 1, 4, 26)))))
        case _:
            chunks[place] = (kind, rng.choice((_flip, _number, _slices))(data, rng))
    return content[:8] + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _zip(content: bytes, rng: Random) -> bytes:
    """A member changed, renamed, removed or doubled, in a sound zip file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:  # damaged by an earlier change
        return _flip(content, rng)
    if not members:
        return content
    place = rng.randrange(len(members))
    name, data = members[place]
    match rng.randrange(6):
        case 0:
            del members[place]
        case 1:
            members[place] = (rng.choice(WORDS).replace("\0", "") or "x", data)
        case 2:
            members[place] = (name, _token(data[:400], rng) + data[400:])
        case _:
            members[place] = (name, rng.choice((_flip, _number, _slices))(data, rng))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name[:60_000]), data)
    return out.getvalue()


def _safetensors(content: bytes, rng: Random) -> bytes:
    """The header's tree changed, with its length right."""
    (length,) = struct.unpack("<Q", content[:8].ljust(8, b"\0"))
    try:
        header = json.dumps(changed_tree(json.loads(content[8 : 8 + length]), rng)).encode()
    except (ValueError, RecursionError):
        return _flip(content, rng)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


FIELDS = ((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
"""Place and size of the fields of a tar header."""
TYPES = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"0", b"S")


def _tar(content: bytes, rng: Random) -> bytes:
    """A field of a member's header changed, with its checksum right."""
    headers = [at for at in range(0, len(content) - 511, 512) if content[at + 257 : at + 262] == b"ustar"]
    if not headers:
        return _flip(content, rng)
    at = rng.choice(headers)
    block = bytearray(content[at : at + 512])
    start, size = rng.choice(FIELDS)
    value = rng.choice(
        (
            rng.choice(WORDS).encode(),
            *(b"0" * (size - 1), b"7" * (size - 1), b"\x80" + b"\xff" * (size - 1), b"\xff" * size, b"-1"),
            rng.choice(b"01234567gxLKSDV").to_bytes(1, "little"),
            rng.randbytes(size),
        )
    )
    block[start : start + size] = value[:size].ljust(size, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return content[:at] + bytes(block) + content[at + 512 :]


def _tar_type(content: bytes, rng: Random) -> bytes:
    """One more member at the start: a link, device, folder, or a header of pax with hostile records."""
    out = io.BytesIO()
    kind = rng.choice(
        (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"0", b"S")
    )
    info = tarfile.TarInfo(rng.choice(WORDS)[:5000].replace("\0", "") or "x")
    info.type, info.linkname = kind, rng.choice(("../secret.png", "/etc/passwd", "a.png"))
    info.pax_headers = {rng.choice(("path", "size", "GNU.sparse.map", "mtime")): rng.choice(WORDS)}
    try:
        with tarfile.open(fileobj=out, mode="w", format=rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))) as tar:
            tar.addfile(info)
    except (ValueError, UnicodeError, OverflowError):
        return content
    return out.getvalue().rstrip(b"\0").ljust((len(out.getvalue().rstrip(b"\0")) + 511) // 512 * 512, b"\0") + content


BYTES: tuple[Mutator, ...] = (_flip, _number, _slices)
TEXT: tuple[Mutator, ...] = (_token, _token, _token, _swap, _lines, _lines, _flip, _slices, _encoded)
FORMS: dict[str, tuple[Mutator, ...]] = {
    "bytes": BYTES,
    "text": TEXT,
    "json": (*(_tree,) * 6, _token, _lines, _flip, _slices, _encoded),
    "png": (*BYTES, _png, _png, _png),
    "zip": (*BYTES, *(_zip,) * 6),
    "tar": (*BYTES, *(_tar,) * 4, _tar_type, _tar_type, _token),
    "safetensors": (*BYTES, *(_safetensors,) * 5),
}
"""Form of a file to the changes that are made to it."""
