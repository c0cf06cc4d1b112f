"""Read annotations in the XML of Pascal VOC, as the program of the challenge and others write it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from xml.parsers.expat import ErrorString

from msrn.data.image_files import is_image_name, visible_entries
from msrn.errors import Problem, reason

__all__ = ["VocObject", "flat_folder", "images_without_annotation", "read_objects"]

DIFFICULT = {"": False, "0": False, "0.0": False, "false": False, "no": False, "unspecified": False}
DIFFICULT |= {"1": True, "1.0": True, "true": True, "yes": True}
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*?\?>")
_ENCODING = re.compile(rb"<\?xml[^>]*?encoding=[\"']([A-Za-z0-9._-]+)[\"']")


@dataclass(frozen=True, slots=True)
class VocObject:
    """An object: its class, whether it is difficult, and whether that is unspecified."""

    name: str
    difficult: bool
    unspecified: bool = False


def flat_folder(root: str, split: str) -> Path | None:
    """The folder of a split that holds annotations beside its images; None if there is none."""
    places = [Path(root) / split, Path(split)] if root else [Path(split)]
    if root and Path(root).name == split:
        places.append(Path(root))
    for place in places:
        if place.is_dir() and not (place / "JPEGImages").is_dir() and any(place.glob("*.xml")):
            return place
    return None


def images_without_annotation(folder: Path, annotated: Container[str]) -> int:
    """How many images of a folder have no annotation of their name."""
    names = (entry.name for entry in visible_entries(folder) if is_image_name(entry.name))
    return sum(name.rpartition(".")[0] not in annotated for name in names)


def read_objects(path: Path, problems: list[Problem]) -> list[VocObject]:
    """The objects of a file. Files that declare entities are refused: annotations need none."""
    try:
        text = _text(path.read_bytes())
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            problems.append(Problem("expected a plain annotation, got one that declares entities", str(path)))
            return []
        tree = ElementTree.fromstring(text)
    except FileNotFoundError:
        problems.append(Problem("expected an annotation, found no file", str(path)))
        return []
    except ElementTree.ParseError as error:
        message = f"the annotation is not XML: {ErrorString(error.code)}"
        problems.append(Problem(message, f"{path}, line {error.position[0]}"))
        return []
    except (OSError, ValueError, LookupError) as error:  # ValueError: a NUL in the name, a text of another encoding
        problems.append(Problem(f"cannot read the annotation: {reason(error)}", str(path)))
        return []
    objects = []
    for entry in tree.iter("object"):
        name = (entry.findtext("name") or "").strip()
        if not name:
            problems.append(Problem("an object has no name", str(path)))
            continue
        flag = next((child.text or "" for child in entry if str(child.tag).lower() == "difficult"), "").strip()
        if flag.lower() not in DIFFICULT:
            problems.append(Problem(f"expected difficult to be 0 or 1 for {name!r}, got {flag!r}", str(path)))
        objects.append(VocObject(name, DIFFICULT.get(flag.lower(), False), flag.lower() == "unspecified"))
    return objects


def _text(content: bytes) -> str:
    """The text of a file in the encoding that it declares, without the declaration; UTF-8 if there is none."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16")
    else:
        declared = _ENCODING.match(content.lstrip()[:200])
        encoding = declared[1].decode("ascii") if declared else "utf-8"
        text = content.decode("utf-8-sig" if encoding.lower().replace("-", "") == "utf8" else encoding)
    lines = _DECLARATION.match(text)
    return text if lines is None else "\n" * lines[0].count("\n") + text[lines.end() :]
