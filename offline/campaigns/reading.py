"""A campaign's file becomes a campaign, or a list of everything that is wrong with it.

TOML. Every field is looked at before anything is refused, so that a file is corrected once.
Paths in it are relative to its folder.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from offline.campaigns.campaign import (
    HOLD_OUT,
    ONLY_ARM,
    Arm,
    Audience,
    Campaign,
    HoldOut,
    MailCap,
    Slots,
)
from offline.campaigns.fields import LISTS, ROOT, SECTIONS, Field
from offline.errors import CampaignError

_PATHS = ("file", "suppression")


def read_campaign(path: Path) -> Campaign:
    """The campaign of a TOML file.

    Raises CampaignError, which has a line for each field that is wrong.
    """
    try:
        value = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CampaignError(f"{path} cannot be read as TOML: {error}") from error
    errors: list[str] = []
    values = _values(value, ROOT, "", errors, (*SECTIONS, *LISTS))
    audience = _section(value, "audience", errors)
    for name in _PATHS:
        if name in audience:
            audience[name] = path.parent / audience[name]
            if not audience[name].is_file():
                errors.append(f"audience.{name}: there is no file {audience[name]}")
    slots = Slots(**_section(value, "slots", errors))
    hold_out = HoldOut(**_section(value, "hold_out", errors))
    caps = [MailCap(**row) for row in _rows(value, "caps", errors)]
    arms = [Arm(**row) for row in _rows(value, "arms", errors)]
    errors += _contradictions(slots, arms)
    if errors:
        raise CampaignError("\n".join([f"{path} is no campaign that can be sent:", *errors]))
    content = json.dumps(value, sort_keys=True, default=str)
    return Campaign(
        **values,
        audience=Audience(**audience),
        slots=slots,
        hold_out=hold_out,
        caps=tuple(caps),
        digest=hashlib.sha256(content.encode()).hexdigest(),
        arms=tuple(arms) or (Arm(name=ONLY_ARM),),
    )


def _section(value: Mapping[str, Any], name: str, errors: list[str]) -> dict[str, Any]:
    table = value.get(name, {})
    if not isinstance(table, Mapping):
        errors.append(f"{name}: should be a table, [{name}]")
        return {}
    return _values(table, SECTIONS[name], f"{name}.", errors)


def _rows(value: Mapping[str, Any], name: str, errors: list[str]) -> list[dict[str, Any]]:
    """The rows of a list of tables that have all they need."""
    rows = value.get(name, [])
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        errors.append(f"{name}: should be a list of tables, [[{name}]]")
        return []
    read = [
        _values(row, LISTS[name], f"{name}[{place}].", errors) for place, row in enumerate(rows, 1)
    ]
    needed = {field.name for field in LISTS[name] if field.required}
    return [row for row in read if needed <= row.keys()]


def _values(
    table: Mapping[str, Any],
    fields: Sequence[Field],
    prefix: str,
    errors: list[str],
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """What the fields of a table say; what is wrong goes to `errors`."""
    names = [field.name for field in fields]
    for key in table:
        if key not in names and key not in others:
            near = get_close_matches(key, (*names, *others), 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(names)}"
            errors.append(f"{prefix}{key}: there is no such field{hint}")
    found: dict[str, Any] = {}
    for field in fields:
        if field.name in table:
            try:
                found[field.name] = field.read(table[field.name])
            except (TypeError, ValueError) as error:
                errors.append(f"{prefix}{field.name}: {error}")
        elif field.required:
            errors.append(f"{prefix}{field.name}: is missing; {field.about}")
    return found


def _contradictions(slots: Slots, arms: Sequence[Arm]) -> list[str]:
    """What is wrong with fields that are right one by one."""
    wrong = []
    if slots.total == 0:
        wrong.append("slots: a mail without anything in it")
    if slots.min_products > slots.products:
        wrong.append("slots.min_products: is more than slots.products")
    names = [arm.name for arm in arms]
    wrong += [f"arms: two are called {name}" for name in {n for n in names if names.count(n) > 1}]
    if HOLD_OUT in names:
        wrong.append(f"arms: {HOLD_OUT} is the name of who gets no mail; choose another")
    if arms and not sum(arm.share for arm in arms):
        wrong.append("arms.share: all are 0, so nobody would be written to")
    return wrong
