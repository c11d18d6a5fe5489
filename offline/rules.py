"""The shop's rules as a file: TOML or JSON, checked before anything is learned."""

import json
import tomllib
from pathlib import Path

from offline.errors import TrainingDataError
from online.errors import RuleError
from online.offering.rules import Rule, read_rules
from online.placements import PLACEMENTS


def load_rules(path: Path) -> tuple[Rule, ...]:
    """The rules of a `.toml` or `.json` file.

    Raises TrainingDataError for a file that cannot be read, RuleError for one whose rules are
    wrong.
    """
    try:
        text = path.read_text("utf-8")
        value = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise TrainingDataError(f"{path} cannot be read as rules: {error}") from error
    try:
        return read_rules(value, tuple(PLACEMENTS))
    except RuleError as error:
        raise RuleError(f"{path}: {error}") from error
