"""What every benchmark is told: where the data is, which period to judge, where to compute."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from offline.errors import SourceError
from offline.models.two_tower.train import DeviceName
from offline.progress import Progress

Period = Literal["test", "validation"]


@dataclass(frozen=True, slots=True)
class Setting:
    """`data` is the folder of the data set; `validation` is what choices are made on."""

    data: Path
    period: Period
    device: DeviceName
    progress: Progress


def read_table(setting: Setting, name: str) -> pl.DataFrame:
    """A Parquet file of the data set; SourceError when it is not there."""
    path = setting.data / name
    if not path.is_file():
        raise SourceError(f"{path} is not there; --data names the folder that holds {name}")
    return pl.read_parquet(path)
