"""Asks a server as a product page would, and prints what the page would show.

For people: the demo, the command line and trying things out. It measures the whole call,
and knows nothing of what is behind it.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Final, Self

import grpc
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aisle.v1 import (
    content_pb2,
    content_pb2_grpc,
    corpus_pb2,
    money_pb2,
    recommendation_pb2,
    recommendation_pb2_grpc,
    slate_pb2,
)
from online.errors import ClientError

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
TIMEOUT_S: Final = 5.0
LOG_WIDTH: Final = 140

CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    (
        "grpc.service_config",
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": [{"service": "aisle.v1.RecommendationService"}],
                        "retryPolicy": {
                            "maxAttempts": 4,
                            "initialBackoff": "0.05s",
                            "maxBackoff": "0.4s",
                            "backoffMultiplier": 2,
                            "retryableStatusCodes": ["UNAVAILABLE"],
                        },
                    }
                ]
            }
        ),
    ),
)
"""What a caller in production should pass to its channel: a connection lost with its worker comes
back in 50 ms (gRPC's own default waits a second), and a read that it lost is asked again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply and how long the whole call took."""

    response: recommendation_pb2.RecommendResponse
    elapsed_ms: float


class Client:
    """One connection to a server. Use it as a context manager."""

    def __init__(self, address: str = DEFAULT_ADDRESS) -> None:
        """Connects when first used."""
        self._address = address
        self._channel = grpc.insecure_channel(address, CHANNEL_OPTIONS)
        self._stub = recommendation_pb2_grpc.RecommendationServiceStub(self._channel)
        self._content = content_pb2_grpc.ContentServiceStub(self._channel)

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._channel.close()

    def wait_until_ready(self, timeout_s: float = 10.0) -> None:
        """Wait for a server; ClientError when none answers in time."""
        try:
            grpc.channel_ready_future(self._channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError:
            raise ClientError(self._nobody()) from None

    def recommend(
        self,
        user: str = "",
        placement: str = "home",
        *,
        context_items: Sequence[str] = (),
        new_only: bool = False,
        page_size: int = 0,
        locale: str = "",
        basket: Sequence[str] = (),
        channel: str = "",
        num_coupons: int = 0,
        num_content: int = 0,
        query: str = "",
    ) -> Answer:
        """The slate for a user (empty: nobody known), with what is needed to show it.

        `basket` are the products in the cart, one of each. `num_coupons` asks for coupons instead
        of products, `num_content` for so much to read among the `page_size`, `query` is what was
        typed into the search. Raises ClientError when no server answers or it refuses the request.
        """
        request = recommendation_pb2.RecommendRequest(
            user_id=user, placement=placement, page_size=page_size, view=slate_pb2.ITEM_VIEW_FULL
        )
        request.context.item_ids.extend(context_items)
        request.context.locale = locale
        request.context.channel = channel
        request.context.query = query
        for item in basket:
            request.context.basket.add(item_id=item)
        if num_coupons:
            request.corpora.add(corpus=corpus_pb2.CORPUS_COUPON, count=num_coupons)
        if num_content:
            request.corpora.add(corpus=corpus_pb2.CORPUS_CONTENT, count=num_content)
        if new_only:
            request.purchase_mode = recommendation_pb2.PURCHASE_MODE_NEW_ONLY
        started_s = perf_counter()
        try:
            response = self._stub.Recommend(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise ClientError(self._explain(error)) from error
        return Answer(response, 1000 * (perf_counter() - started_s))

    def search_content(self, question: str) -> content_pb2.SearchContentResponse:
        """What answers a question. Raises ClientError as `recommend` does."""
        request = content_pb2.SearchContentRequest(query=question)
        try:
            return self._content.SearchContent(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise ClientError(self._explain(error)) from error

    def _explain(self, error: grpc.RpcError) -> str:
        if not isinstance(error, grpc.Call):
            return str(error)
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return self._nobody()
        return f"{self._address} answers {error.code().name}: {error.details()}"

    def _nobody(self) -> str:
        return (
            f"no server answers at {self._address}; start one with `python -m online serve`, "
            "or name another with --address"
        )


def print_slate(answer: Answer, title: str, console: Console | None = None) -> None:
    """Print an answer as a table, with the model, the time and what was left out below it."""
    console = console or _console()
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("#", justify="right")
    table.add_column("Product", overflow="fold")
    table.add_column("Category", overflow="fold", style="dim")
    table.add_column("Price", justify="right")
    table.add_column("Reason", overflow="fold")
    table.add_column("Source", style="dim")
    table.add_column("Score", justify="right")
    for rank, item in enumerate(answer.response.items, start=1):
        table.add_row(
            str(rank),
            item.display.title or item.item_id,
            item.display.category or item.content.kind,
            price_text(item.display),
            item.reason.text,
            item.source,
            f"{item.score:.3f}",
        )
    console.print(table)
    console.print(summary(answer), style="dim")


def print_found(
    question: str, found: content_pb2.SearchContentResponse, console: Console | None = None
) -> None:
    """Print a question with the passage that answers it best, or that there is none."""
    console = console or _console()
    console.print(f"[bold]{escape(question)}[/bold]")
    for match in found.matches[:1]:
        head = f"{match.display.title} ({match.item_id}, {match.confidence:.0%} sure)"
        console.print(f"  {escape(head)}\n  {escape(match.passage)}", highlight=False)
    if not found.matches:
        console.print("  no answer in what the shop has to read", style="dim")


def print_coupons(answer: Answer, title: str, console: Console | None = None) -> None:
    """Print the coupons of an answer with what each saves on the basket, and why it is there."""
    console = console or _console()
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("#", justify="right")
    table.add_column("Coupon", overflow="fold")
    table.add_column("Saves", justify="right")
    table.add_column("Needs", justify="right")
    table.add_column("Ends", style="dim")
    table.add_column("Reason", overflow="fold")
    table.add_column("Chance", justify="right")
    for rank, item in enumerate(answer.response.items, start=1):
        coupon = item.coupon
        table.add_row(
            str(rank),
            item.display.title or item.item_id,
            amount_text(coupon.saving) if coupon.HasField("saving") else "",
            amount_text(coupon.minimum_basket) if coupon.HasField("minimum_basket") else "",
            coupon.end_time.ToDatetime().date().isoformat() if coupon.HasField("end_time") else "",
            item.reason.text,
            f"{item.score:.2%}",
        )
    console.print(table)
    console.print(summary(answer), style="dim")


def _console() -> Console:
    """The terminal; what is not one, such as a log, is wide enough for the table."""
    console = Console()
    return console if console.is_terminal else Console(width=LOG_WIDTH)


def price_text(display: slate_pb2.Display) -> str:
    """The price as a page shows it, empty where there is none."""
    if not display.HasField("price"):
        return ""
    return amount_text(display.price)


def amount_text(money: money_pb2.Money) -> str:
    """An amount with two digits after the point, and its currency where it is told."""
    return f"{money.units}.{money.nanos // 10_000_000:02} {money.currency_code}".rstrip()


def summary(answer: Answer) -> str:
    """One line: the model, the time, ids that are not known, stages that were left out."""
    response = answer.response
    parts = [f"model {response.model_version}", f"{answer.elapsed_ms:.1f} ms"]
    if response.missing_ids:
        parts.append(f"not in the catalogue: {', '.join(response.missing_ids)}")
    for left_out in response.degraded:
        cause = slate_pb2.DegradedStage.Cause.Name(left_out.cause)
        parts.append(f"without {left_out.stage} ({cause.removeprefix('CAUSE_').lower()})")
    return ", ".join(parts)


def ask(options: argparse.Namespace) -> None:
    """Ask once and print the slate."""
    with Client(options.address) as client:
        answer = client.recommend(
            options.user,
            options.placement,
            context_items=options.context_item,
            new_only=options.new_only,
            page_size=options.page_size,
            locale=options.locale,
            query=options.query,
        )
    title = f"{options.placement} for {options.user or 'somebody unknown'}"
    print_slate(answer, title)
