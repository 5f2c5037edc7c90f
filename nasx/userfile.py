"""A user's own Python file, named as "./file.py:Name": found, executed once, and looked into."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from nasx.errors import SpaceError
from nasx.nearest import hint

log = logging.getLogger("nasx")


def is_file_reference(reference: str) -> bool:
    """Say whether `reference` names a file ("./file.py:Name") and not something installed."""
    return ".py" in reference or "/" in reference


def resolve(reference: str, base: Path | None = None) -> str:
    """Return "/absolute/file.py:Name", found in the working directory, then in `base`."""
    text, colon, name = reference.rpartition(":")
    if not colon or not text.endswith(".py") or not name.isidentifier():
        raise SpaceError(f"'{reference}': name a class in a file as ./file.py:Class")
    places = [Path.cwd(), *([base] if base else [])]
    for place in places:
        file = (place / Path(text).expanduser()).resolve()
        if file.is_file():
            return f"{file}:{name}"
    raise SpaceError(f"there is no file {text} in {' or '.join(map(str, dict.fromkeys(places)))}")


def load_name(reference: str, wanted: str, fits: Callable[[Any], bool]) -> Any:
    """Return the class or function at "/absolute/file.py:Name"; the file is executed."""
    text, _, name = reference.rpartition(":")
    module = execute(Path(text))
    found = getattr(module, name, None)
    if found is not None and fits(found):
        return found
    own = [k for k, v in vars(module).items()
           if fits(v) and getattr(v, "__module__", "") == module.__name__]  # fmt: skip
    what = f"has no '{name}'" if found is None else f"'{name}' is not {wanted}"
    raise SpaceError(f"{text}: {what}; {hint(name, own) if own else f'write {wanted} in it'}")


def execute(file: Path) -> ModuleType:
    """Return the module of a file, executed once per content; its folder may hold its imports."""
    digest = hashlib.sha256(str(file).encode() + b"\0" + file.read_bytes()).hexdigest()[:10]
    name = f"nasx_user_{file.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    log.info("executing the code of %s", file)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SpaceError(f"{file} cannot be read as Python")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # last, so that it shadows nothing
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look the module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise SpaceError(
            f"{_line(file, error)}: {type(error).__name__}: {error}: mend the file"
        ) from error
    return module


def _line(file: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename) == file:
            return f"{file}:{frame.lineno}"
    return str(file)
