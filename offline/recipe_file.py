"""Recipes as TOML files: what differs from a recipe in code.

A search writes its best result as one, and `train --recipe PATH` reads it. The file names the
recipe it starts from; every other line is a field of `offline.recipe`, in its section.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

from feature_store.durable import replace_file
from offline.errors import RecipeError
from offline.recipe import RECIPES, Recipe

SUFFIX: Final = ".toml"
BASE: Final = "base"


def load_recipe(name: str) -> Recipe:
    """The recipe in code of that name, or the file's if it ends in `.toml`; else RecipeError."""
    if name.endswith(SUFFIX):
        return read_recipe(Path(name))
    if name not in RECIPES:
        raise RecipeError(
            f"there is no recipe {name}; there are {', '.join(sorted(RECIPES))}, and files "
            f"that end in {SUFFIX}"
        )
    return RECIPES[name]()


def read_recipe(path: Path) -> Recipe:
    """The recipe of a file; RecipeError names the line that does not fit."""
    try:
        changes = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"the recipe {path} cannot be read: {error}") from error
    base = changes.pop(BASE, None)
    if base not in RECIPES:
        raise RecipeError(f'{path} must begin with {BASE} = "NAME" of {", ".join(sorted(RECIPES))}')
    return changed(RECIPES[base](), {"name": path.stem} | changes)


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other values; sections are mappings. RecipeError for what does not fit."""
    result: Recipe = _changed(recipe, changes, "")
    return result


def _changed(config: Any, changes: Mapping[str, Any], where: str) -> Any:
    types = get_type_hints(type(config))
    values = {}
    for name, value in changes.items():
        place = f"{where}{name}"
        if name not in types:
            known = ", ".join(field.name for field in fields(config))
            raise RecipeError(f"a recipe has no {place}; there are {known}")
        now = getattr(config, name)
        if is_dataclass(now) and isinstance(value, Mapping):
            values[name] = _changed(now, value, f"{place}.")
        else:
            values[name] = _fitting(value, types[name], place)
    return replace(config, **values)


def _fitting(value: Any, wanted: Any, place: str) -> Any:
    """The value as the field's type has it: whole numbers are numbers, lists are tuples."""
    allowed = get_args(wanted) if type(None) in get_args(wanted) else (wanted,)
    if isinstance(value, list) and any(
        getattr(one, "__origin__", None) is tuple for one in allowed
    ):
        return tuple(value)
    if isinstance(value, int) and not isinstance(value, bool) and float in allowed:
        return float(value)
    if type(value) in allowed:
        return value
    raise RecipeError(f"{place} = {value!r} is of another kind than the recipe's")


def write_recipe(path: Path, base: str, changes: Mapping[str, Any], note: str) -> None:
    """Write changes to the recipe `base`, under a comment of any number of lines."""
    lines = [f"# {line}" for line in note.splitlines()]
    lines += ["", f'{BASE} = "{base}"']
    lines += [f"{name} = {_toml(v)}" for name, v in changes.items() if not isinstance(v, Mapping)]
    for section, values in changes.items():
        if isinstance(values, Mapping):
            lines += ["", f"[{section}]"]
            lines += [f"{name} = {_toml(value)}" for name, value in values.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, ("\n".join(lines) + "\n").encode())


def _toml(value: float | str) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
