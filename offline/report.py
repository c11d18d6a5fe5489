"""What a person reads after a run: tables of measures on the terminal."""

from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.table import Table

from feature_store.registry import Version
from offline.gate import Verdict
from offline.metrics import bootstrap
from offline.replay import Judgement

_TITLES = {
    "recall_at_20_all": "recall@20",
    "ndcg_at_20_all": "NDCG@20",
    "recall_at_20_new": "… of new",
    "ndcg_at_20_new": "… of new",
}


def print_judgements(judgements: Mapping[str, Judgement]) -> None:
    """One row a ranker: each measure's mean with its 95% interval."""
    num_users = len(next(iter(judgements.values())).users)
    table = Table(title=f"Held-out period, {num_users:,} users, with half its 95% interval")
    table.add_column("ranker", no_wrap=True)
    for title in _TITLES.values():
        table.add_column(title, justify="right", no_wrap=True)
    for name, judgement in judgements.items():
        table.add_row(name, *(_cell(judgement.values[measure]) for measure in _TITLES))
    Console().print(table)


def print_verdict(verdict: Verdict, version: Version) -> None:
    """Whether the new version serves, and why."""
    console = Console()
    console.print(f"The gate: {verdict.reason}")
    if verdict.passed:
        console.print(f"Version {version.version}, bundle {version.bundle_id}, is champion now.")
    else:
        console.print(f"Version {version.version} is registered, the champion stays.")


def _cell(values: np.typing.NDArray[np.float64]) -> str:
    interval = bootstrap(values[~np.isnan(values)])
    half = (interval.high - interval.low) / 2
    return f"{interval.mean:.4f} ±{half:.3f}".replace("0.", ".")
