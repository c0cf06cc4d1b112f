"""Find the images that a data set names, also where all missing names differ from the files in one way.

The exact name is always tried first. If images are missing, these rules are tried in turn, and a rule is used only if
it finds one file for every missing image, and a different one for each: forward slashes for backslashes,
percent-encoding undone, upper and lower case or Unicode forms apart, a missing or other suffix, numbers without their
leading zeros, and leading folders (or the server of a URL) left out; last, the only file of the name in any subfolder.
Nothing is fetched.
"""

from __future__ import annotations

import os
import posixpath
import re
import shlex
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from msrn.data.archives.names import archive_and_member
from msrn.data.image_files import IMAGE_SUFFIXES, is_hidden, is_image_name
from msrn.data.image_paths import absent_images, missing_image
from msrn.errors import Problem

__all__ = ["FoundImages", "is_url", "resolve_images"]

MAX_SEPARATE = 3
"""Missing images that are reported one by one."""

ELSEWHERE = "they are in"

MAX_FOLDERS = 8
"""Leading folders that a rule leaves out at most."""


@dataclass(frozen=True, slots=True)
class FoundImages:
    """Names of images below the root, in the order asked; what was changed to find them; and what is missing."""

    names: list[str]
    note: str
    problems: list[Problem]


def is_url(image: str) -> bool:
    """Whether a name is a URL, such as ``https://`` or ``gs://``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", image) is not None


def resolve_images(root: Path, images: Sequence[tuple[str, str]]) -> FoundImages:
    """Find images below a folder.

    Args:
        root: the folder.
        images: pairs of a name and where it is named; an empty name is left as it is.

    Returns:
        The names of the files. Where no rule finds every missing image, they are problems: one for each of up to three,
        else one with their number.
    """
    named = [pair for pair in images if pair[0]]
    names = [image for image, _ in images]
    lost = absent_images(root, named)
    if not lost:
        return FoundImages(names, "", [])
    taken = {posixpath.normpath(image) for image, _ in named} - {posixpath.normpath(image) for image, _ in lost}
    folders = _Folders(root)
    for rule, find in _rules(all_lost=len(lost) == len(named)):
        found = _found(folders, find, [image for image, _ in lost], taken)
        if found:
            first = lost[0][0]
            note = f"{len(lost):,} images found by {rule} ({first!r} is {found[first]!r})"
            return FoundImages([found.get(name) or name for name in names], note, [])
    problems = _problems(root, lost, folders, len(named))
    if len(lost) == len(named) and not any(problem.hint.startswith(ELSEWHERE) for problem in problems):
        anywhere = _by_name(root)
        found = _found(folders, lambda _, image: anywhere.get(_base(image)), [image for image, _ in lost], taken)
        if found:
            first = lost[0][0]
            note = f"{len(lost):,} images found by their name in subfolders ({first!r} is {found[first]!r})"
            return FoundImages([found.get(name) or name for name in names], note, [])
    return FoundImages(names, "", problems)


def _by_name(root: Path) -> dict[str, str]:
    """Image files in the subfolders of a folder, by their name, where only one has it."""
    found: dict[str, list[str]] = {}
    for place, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not is_hidden(name))
        for name in files:
            if is_image_name(name):
                path = os.path.relpath(os.path.join(place, name), root).replace(os.sep, "/")
                found.setdefault(name, []).append(path)
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}


def _found(
    folders: _Folders, find: Callable[[_Folders, str], str | None], images: Sequence[str], taken: set[str]
) -> dict[str, str]:
    """The file of each image by one rule; nothing if it finds no file for one of them, or one file for two."""
    found: dict[str, str] = {}
    used = set(taken)
    for image in dict.fromkeys(images):
        file = None if archive_and_member(image) else find(folders, image)
        if file is None or file in used:
            return {}
        found[image] = file
        used.add(file)
    return found


def _rules(*, all_lost: bool) -> list[tuple[str, Callable[[_Folders, str], str | None]]]:
    """Description and search of each rule, the least change first.

    Folders are left out only where no image at all is found: a single one that is missing may well be elsewhere.
    """
    exact: Callable[[str], str] = str
    rules: list[tuple[str, Callable[[_Folders, str], str | None]]] = [
        ("reading backslashes as slashes", partial(_find, clean=_slashes, key=exact)),
        ("undoing percent-encoding", partial(_find, clean=_decoded, key=exact)),
        ("their names with other Unicode forms", partial(_find, clean=_decoded, key=_normal)),
        ("their names in other upper and lower case", partial(_find, clean=_decoded, key=_lower)),
        ("adding the suffix", partial(_find, clean=_decoded, key=_lower, suffix="add")),
        ("another suffix", partial(_find, clean=_decoded, key=_lower, suffix="change")),
        ("their numbers without leading zeros", partial(_find, clean=_whole_number, key=_number, suffix="add")),
    ]
    for count in range(MAX_FOLDERS + 1) if all_lost else ():
        folders = f"leaving out {count} leading folder{'s' * (count > 1)}" if count else "leaving out server or disk"
        for ending in ("", "add"):
            clean = partial(_shortened, count=count)
            rules.append(
                (folders + " and adding the suffix" * bool(ending), partial(_find, clean=clean, suffix=ending))
            )
    if all_lost:
        rules.append(("the last part of the path", partial(_find, clean=_base)))
        rules.append(("leaving out folders and Label Studio's prefix of uploads", partial(_find, clean=_upload)))
    return rules


class _Folders:
    """Names in folders below a root, listed once; hidden ones are left out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[tuple[str, str], dict[str, list[str]]] = {}

    def find(self, folder: str, name: str, key: Callable[[str], str], what: str) -> str | None:
        """The only entry of a folder whose key is that of a name."""
        place = (folder, f"{what}{key}")
        if place not in self._listed:
            self._listed[place] = {}
            for entry, is_folder in self._entries(folder):
                if is_folder == (what == "folder") and (what != "stem" or is_image_name(entry)):
                    text = os.path.splitext(entry)[0] if what == "stem" else entry
                    self._listed[place].setdefault(key(text), []).append(entry)
        found = self._listed[place].get(key(name), [])
        if name in found:
            return name
        return found[0] if len(found) == 1 else None

    def _entries(self, folder: str) -> list[tuple[str, bool]]:
        try:
            with os.scandir(self.root / folder) as entries:
                return [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return []


def _find(
    folders: _Folders, image: str, *, clean: Callable[[str], str], key: Callable[[str], str] = str, suffix: str = ""
) -> str | None:
    """The file of an image, found folder by folder."""
    parts = PurePosixPath(clean(image)).parts
    if not parts or ".." in parts or parts[0] == "/":
        return None
    path = ""
    for part in parts[:-1]:
        next_part = folders.find(path, part, key, "folder")
        if next_part is None:
            return None
        path = posixpath.join(path, next_part)
    name = parts[-1]
    if suffix == "change" and is_image_name(name):
        name = os.path.splitext(name)[0]
    file = folders.find(path, name, key, "stem" if suffix else "file")
    return None if file is None else posixpath.join(path, file)


def _slashes(image: str) -> str:
    return image.replace("\\", "/")


def _decoded(image: str) -> str:
    return unquote(_slashes(image)) if "%" in image else _slashes(image)


def _path_of(image: str) -> str:
    """The path of a URL, of a Windows path or of an absolute path, without what comes before it."""
    text = _decoded(image)
    if is_url(text):
        text = text.split("://", 1)[1]
    text = text.split("?d=", 1)[-1].split("?", 1)[0]  # Label Studio: /data/local-files/?d=folder/name.jpg
    return re.sub(r"^[A-Za-z]:", "", text).lstrip("/")


def _shortened(image: str, *, count: int) -> str:
    parts = _path_of(image).split("/")
    # A name with fewer folders has none left: only its last part.
    return "/".join(parts[min(count, len(parts) - 1) :])


def _base(image: str) -> str:
    return _path_of(image).rsplit("/", 1)[-1]


def _upload(image: str) -> str:
    return re.sub(r"^[0-9a-f]{8}-", "", _base(image))


def _whole_number(image: str) -> str:
    """A number that a table program has written as 17.0 in place of 17."""
    return re.sub(r"^(\d+)\.0$", r"\1", image)


def _number(name: str) -> str:
    return name.lstrip("0") or "0" if name.isascii() and name.isdecimal() else name


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _lower(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()


def _problems(root: Path, lost: Sequence[tuple[str, str]], folders: _Folders, count: int) -> list[Problem]:
    """Problems for missing images, with the way out."""
    near = next(((image, file) for image, _ in lost[:100] if (file := _nearest(folders, image))), None)
    hint = f"{near[1]!r} is there: name it so" if near else ""
    if not hint and (folder := _other_root(root, [image for image, _ in lost])):
        hint = f"{ELSEWHERE} {folder}: pass --data.root {shlex.quote(str(folder))}"
    if not hint and (packed := _archive(root)):
        hint = f"{packed} is there: unpack it"
    if any(is_url(image) for image, _ in lost):
        hint = "URLs are not fetched: download the images into data.root, and name them by their path there"
    if len(lost) <= MAX_SEPARATE:
        each = [missing_image(root, image, where) for image, where in lost]
        if hint and any("\\" in image for image, _ in lost):
            hint += "; write folders with forward slashes"
        return [Problem(problem.message, problem.where, hint or problem.hint) for problem in each]
    some = ", ".join(repr(image) for image, _ in lost[:2])
    message = f"{len(lost):,} of {count:,} images do not exist below {root}, such as {some}"
    return [Problem(message, f"{lost[0][1]}, and {len(lost) - 1:,} more", hint or "check data.root and the names")]


def _archive(root: Path) -> str:
    """A packed file in a folder that may hold its images; empty if there is none."""
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return ""
    return next((name for name in names if name.lower().endswith((".zip", ".tar.gz", ".tgz", ".rar", ".7z"))), "")


def _other_root(root: Path, images: Sequence[str]) -> Path | None:
    """A folder in or above the root that holds every one of the first hundred images, maybe without their suffix."""
    some = list(dict.fromkeys(image for image in images[:100] if not archive_and_member(image)))
    try:
        places = [entry for entry in sorted(root.iterdir())[:200] if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return None
    for place in [*places, root.parent]:
        folders = _Folders(place)
        for suffix in ("", "add"):
            if some and all(_find(folders, image, clean=_slashes, suffix=suffix) for image in some):
                return place
    return None


def _nearest(folders: _Folders, image: str) -> str | None:
    if not image.lower().endswith(IMAGE_SUFFIXES) and "." in PurePosixPath(image).name:
        return None
    return next((file for _, find in _rules(all_lost=True) if (file := find(folders, image))), None)
