"""What a person looks at before a campaign is sent: some mails as they would look, and figures.

One HTML file that needs nothing else. Who is shown goes by a hash, so it is the same after every
resumption. It knows the files of an export and no engine.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
from jinja2 import Environment, FileSystemLoader, select_autoescape

from feature_store.durable import replace_file
from feature_store.schema import CATEGORY_SEPARATOR, MICROSECONDS_PER_DAY
from offline.campaigns.campaign import HOLD_OUT, Campaign
from offline.campaigns.mail_history import mails_sent
from offline.campaigns.parts import PREVIEW, Folder
from offline.campaigns.planning import Site

TEMPLATE: Final = "preview.html"
LAST_MAIL_DAYS: Final = 90.0
MAX_BARS: Final = 12
COLOUR: Final = "#3b6ea5"


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of an export as rows of name and value, and its pictures as PNG."""

    rows: list[tuple[str, str]]
    pictures: list[tuple[str, str]]


def write_preview(campaign: Campaign, folder: Folder, site: Site, asked: dict[str, Any]) -> Path:
    """Write `preview.html` into the folder of an export whose parts are whole."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    mails = folder.scan_mails()
    sent = datetime.fromtimestamp(asked["send_time"] / 1e6, UTC)
    page = environment.get_template(TEMPLATE).render(
        campaign=campaign,
        model_version=asked["model_version"],
        send_time=f"{sent:%Y-%m-%d %H:%M} UTC",
        summary=summarize(folder, mails, site, asked["send_time"]),
        mails=_sampled(mails, campaign.preview_users),
    )
    replace_file(folder.path / PREVIEW, page.encode())
    return folder.path / PREVIEW


def summarize(folder: Folder, mails: pl.LazyFrame, site: Site, time: int) -> Summary:
    """The figures of an export: whom it reaches, with what, and how much of it is new to them."""
    arms = mails.select("pseudonym", "arm").unique().collect()["arm"].value_counts().sort("arm")
    num_people = folder.scan_plan().select(pl.len()).collect().item()
    num_mails, num_rows = sum(arms["count"].to_list()), int(_one(mails.select(pl.len())))
    products = mails.filter(pl.col("slot") == "product")
    shown = products.group_by("item").agg(num=pl.len()).sort("num", "item", descending=True)
    items = shown.collect()
    overlap = _overlap(mails, site, time)
    rows = [
        ("people in the audience", f"{num_people:,}"),
        ("mails", f"{num_mails:,} ({_share(num_mails, num_people)})"),
        ("places", f"{num_rows:,}"),
        ("distinct products", f"{len(items):,}"),
        ("shown most", f"{_share(max(items['num'].to_list(), default=0), num_mails)} of the mails"),
        ("of the last mail, in this one too", overlap),
        ("expected cost of coupons", f"{_one(mails.select(pl.col('expected_cost').sum())):,.2f}"),
        *((f"arm {arm}", f"{num:,}") for arm, num in arms.iter_rows()),
    ]
    pictures = [
        ("Who gets no mail, and why", _bars(_reasons(folder))),
        ("Products by department", _bars(_departments(products))),
        ("Reasons given", _bars(_counts(mails, "reason_code"))),
        ("How often each product is shown", _curve(items["num"].to_list())),
    ]
    return Summary(rows, [(title, picture) for title, picture in pictures if picture])


def _sampled(mails: pl.LazyFrame, num: int) -> list[list[dict[str, Any]]]:
    """The rows of some mails, the same ones each time."""
    people = mails.select("pseudonym").unique().sort(pl.col("pseudonym").str.tail(16))
    names = people.head(num).collect()["pseudonym"].to_list()
    rows = mails.filter(pl.col("pseudonym").is_in(names)).sort("pseudonym", "rank").collect()
    return [part.to_dicts() for part in rows.partition_by("pseudonym", maintain_order=True)]


def _overlap(mails: pl.LazyFrame, site: Site, time: int) -> str:
    """The share of what people had in their last mail that is in this one again."""
    since = time - round(LAST_MAIL_DAYS * MICROSECONDS_PER_DAY)
    sent = mails_sent(site.home, site.known.tables, since).filter(pl.col("item").is_not_null())
    last = sent.filter(pl.col("event_time") == pl.col("event_time").max().over("pseudonym")).select(
        "pseudonym", "item"
    )
    again = mails.select("pseudonym", "item").join(last.lazy(), on=["pseudonym", "item"])
    reached = last.lazy().join(mails.select("pseudonym").unique(), on="pseudonym")
    num = int(_one(reached.select(pl.len())))
    return _share(int(_one(again.select(pl.len()))), num) if num else "nobody had one before"


def _reasons(folder: Folder) -> list[tuple[str, int]]:
    files = sorted(folder.path.glob("left-out-*.parquet"))
    rows = pl.scan_parquet(files, glob=False)
    named = pl.col("reason").replace({HOLD_OUT: "hold-out"}).str.replace_all("_", " ")
    return _counts(rows.select(reason=named), "reason")


def _departments(products: pl.LazyFrame) -> list[tuple[str, int]]:
    department = pl.col("category").str.split(CATEGORY_SEPARATOR).list.first().fill_null("")
    return _counts(products.select(department=department), "department")


def _counts(rows: pl.LazyFrame, column: str) -> list[tuple[str, int]]:
    counted = (
        rows.group_by(column).agg(num=pl.len()).sort(["num", column], descending=[True, False])
    )
    return [(name or "none", num) for name, num in counted.head(MAX_BARS).collect().iter_rows()]


def _one(frame: pl.LazyFrame) -> Any:
    return frame.collect().item()


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _bars(counts: Sequence[tuple[str, int]]) -> str:
    """Horizontal bars as a PNG in base64; "" for nothing to show."""
    if not counts:
        return ""
    names = [name[:32] for name, _ in reversed(counts)]
    return _drawn(lambda axes: axes.barh(names, [num for _, num in reversed(counts)], color=COLOUR))


def _curve(counts: Sequence[int]) -> str:
    if not counts:
        return ""

    def draw(axes: Any) -> None:
        axes.loglog(range(1, len(counts) + 1), counts, color=COLOUR)
        axes.set_xlabel("product, the most shown first")
        axes.set_ylabel("mails")

    return _drawn(draw)


def _drawn(draw: Callable[[Any], Any]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.0), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return base64.b64encode(content.getvalue()).decode()
