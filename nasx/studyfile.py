"""Read a study file: YAML text to a checked Study, with every fault told at once.

study = load("studies/tinynet.yaml", overrides=["search.trials=8"])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasx.errors import MissingData, NasxError, StudyError
from nasx.nearest import hint
from nasx.overrides import is_named, keys_of
from nasx.study import NAME, Strict, Study
from nasx.studyfaults import STUDY, Kind, M, validate
from nasx.yamlmarks import Document, Place, parse
from nasx.yamlmarks import Path as Keys

LARGEST = 256 * 1024  # bytes


@dataclass(frozen=True)
class Fault:
    """Something wrong in a study, at a place in the file or in an override."""

    place: Place | None
    override: str
    message: str


@dataclass
class Source:
    """A study text with its overrides laid over it."""

    file: str
    lines: list[str]
    document: Document
    overridden: dict[Keys, str]
    faults: list[Fault]

    def add(self, path: Keys, message: str, of_key: bool = False) -> None:
        """Note a fault at `path`; faults that follow from an unreadable value are left out."""
        for keys, text in self.overridden.items():
            above = keys[: len(path)] == path and path not in self.document.values
            if path[: len(keys)] == keys or above:
                self.faults.append(Fault(None, text, message))
                return
        if any(path[: len(b)] == b for b in self.document.broken):
            return
        self.faults.append(Fault(self.document.place(path, of_key), "", message))

    def refuse(self, kind: type[NasxError] = StudyError) -> None:
        """Raise all faults together, in the order of the text; return where there is none."""
        if not self.faults:
            return
        order = sorted(
            dict.fromkeys(self.faults),
            key=lambda f: (f.place is None, f.place.line if f.place else 0,
                           f.place.column if f.place else 0),
        )  # fmt: skip
        told = [self._tell(fault) for fault in order]
        if len(told) > 1:
            told.insert(0, f"{self.file} has {len(told)} faults")
        raise kind("\n".join(told))

    def _tell(self, fault: Fault) -> str:
        if fault.place is None:
            return f"--set {fault.override}: {fault.message}"
        line, column = fault.place.line, fault.place.column
        head = f"{self.file}:{line + 1}:{column + 1}: {fault.message}"
        if line >= len(self.lines):
            return head
        text, caret = _window(self.lines[line], column)
        return f"{head}\n    {text}\n    {' ' * caret}^"


def _window(text: str, column: int) -> tuple[str, int]:
    """Return at most 100 characters of a line around `column`, without control characters."""
    start = max(0, column - 60) if len(text) > 100 else 0
    shown = "".join(c if c.isprintable() else " " for c in text[start : start + 100])
    return shown, column - start


def load(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Return the study of a file, or of a shipped study's name; refuse all faults together.

    `overrides` are "a.b=value" with the value in YAML. Raises StudyError, or MissingData where the
    study is sound and its data are not here. Relative paths in the
    study (`./net.py:Net`, a task's `path`) are looked for here, then beside the file.
    """
    file = find(path)
    study, source = read(file, path, overrides, STUDY)
    # Fields, domains and scores need the space and the task, and these need torch: last, so
    # that a misspelt key is told at once.
    from nasx.studychecks import meaning_faults

    study, faults, missing = meaning_faults(study, file.resolve().parent)
    for keys, message in faults + missing:
        source.add(keys, message, of_key=keys in source.document.keys and keys[0] != "start")
    source.refuse(StudyError if faults else MissingData)
    return study


def find(path: str | Path) -> Path:
    """Return the file of a path, or of a shipped study's name."""
    from nasx import registry

    return file_of(path, registry.studies, "study")


def file_of(path: str | Path, known: Callable[[], Mapping[str, Path]], noun: str) -> Path:
    """Return the file of a path, or of a shipped name among `known`; StudyError for neither."""
    file = Path(path)
    if file.is_file():
        return file
    shipped = known()
    if str(path) in shipped:
        return shipped[str(path)]
    if file.is_dir():
        raise StudyError(f"{path} is a folder: give the {noun} file in it")
    raise StudyError(
        f"there is no {noun} file {path}, and no shipped {noun} of that name; "
        f"{hint(file.stem, shipped)}"
    )


def read(
    file: Path, shown: str | Path, overrides: Sequence[str], kind: Kind[M]
) -> tuple[M, Source]:
    """Return a file of one kind, right by its schema, and its text; refuse all faults together.

    `shown` is how the user named the file.
    """
    if not NAME.match(file.stem):
        raise StudyError(
            f"{file}: a {kind.noun} is named by its file, and '{file.stem}' is not a name: "
            "use lower-case letters, digits, - and _, at most 64"
        )
    named = str(shown if file == Path(shown) else file)
    return _schema(_text(file, kind.noun), named, file.stem, overrides, kind)


def _text(file: Path, noun: str) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(LARGEST + 1)
    except OSError as error:
        raise StudyError(f"{file}: cannot be read: {error.strerror}") from None
    if len(raw) > LARGEST:
        raise StudyError(f"{file}: is larger than {LARGEST // 1024} KiB: not a {noun} file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(f"{file}: byte {error.start} is not UTF-8: save it as UTF-8") from None


def _schema(
    text: str, file: str, name: str, overrides: Sequence[str], kind: Kind[M]
) -> tuple[M, Source]:
    document = parse(text)
    source = Source(file, text.splitlines(), document, {}, [])
    source.faults += [Fault(place, "", message) for place, message in document.faults]
    if () in document.broken:
        source.refuse()
    if not isinstance(document.value, dict):
        what = "is empty" if document.value is None else "is not a mapping of keys to values"
        raise StudyError(f"{file}: {what}: a {kind.noun} needs {kind.needs}")
    data = document.value
    for override in overrides:
        _lay(override, data, source, kind.model)
    found, faults = validate({"name": name, **data}, kind)
    for keys, message, of_key in faults:
        source.add(keys, message, of_key)
    source.refuse()
    if found is None:  # every refusal has a fault; this holds the type
        raise StudyError(f"{file}: is not a {kind.noun}")
    return found, source


def _lay(override: str, data: dict[str, Any], source: Source, model: type[Strict]) -> None:
    """Lay one "a.b=value" over the file's plain values."""
    target, sign, text = override.partition("=")
    keys = keys_of(model, target.strip())
    if not sign or not all(keys):
        source.faults.append(Fault(None, override, "write it as key=value or section.key=value"))
        return
    value = parse(text)
    source.faults += [Fault(None, override, message) for _, message in value.faults]
    if value.faults:
        return
    inner = data
    for i, key in enumerate(keys[:-1]):
        if is_named(model, keys[:i]) and key not in inner:
            said = f"{'.'.join(map(str, keys[:i]))} has no '{key}'; {hint(str(key), inner)}"
            source.faults.append(Fault(None, override, said))
            return
        inner = inner.setdefault(str(key), {})
        if not isinstance(inner, dict):
            dotted = ".".join(map(str, keys[: i + 1]))
            source.faults.append(Fault(None, override, f"'{dotted}' has no parts to set"))
            return
    inner[str(keys[-1])] = value.value
    source.overridden[keys] = override
