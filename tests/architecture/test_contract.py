"""The contract: its code is fresh, it is well formed, and nothing frozen in it changes."""

import shutil
import sys
from pathlib import Path
from typing import Any

import protovalidate
import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.type import money_pb2 as google_money_pb2

from aisle.v1 import (
    catalog_pb2,
    chat_pb2,
    content_pb2,
    context_pb2,
    corpus_pb2,
    coupon_pb2,
    event_pb2,
    money_pb2,
    recommendation_pb2,
    slate_pb2,
    user_pb2,
)
from feature_store.schema import CORPORA, EVENT_KINDS, ITEM_KINDS, MAX_ID_LENGTH, EventKind
from tests.architecture.tree import GENERATED, ROOT, run

PROTO = ROOT / "proto"
SERVICES: dict[FileDescriptor, tuple[str, ...]] = {
    recommendation_pb2.DESCRIPTOR: ("Recommend", "Explain"),
    event_pb2.DESCRIPTOR: ("WriteEvents", "StreamEvents"),
    user_pb2.DESCRIPTOR: ("MergeUsers", "EraseUser"),
    catalog_pb2.DESCRIPTOR: ("UpsertItems", "DeleteItems"),
    content_pb2.DESCRIPTOR: ("SearchContent",),
    coupon_pb2.DESCRIPTOR: ("ExplainCoupon", "ClaimCoupon", "RedeemCoupon"),
    chat_pb2.DESCRIPTOR: ("Converse", "StreamConverse"),
}


def broken_rules(message: Message) -> set[str]:
    """The rules that a message breaks, as `field.path:rule` or `rule`."""
    broken = set()
    for violation in protovalidate.collect_violations(message):
        path = violation.proto.field
        names = ".".join(element.field_name for element in path.elements) if path else ""
        broken.add(f"{names}:{violation.proto.rule_id}" if names else violation.proto.rule_id)
    return broken


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    made = run(sys.executable, PROTO / "generate.py", "--out", tmp_path)
    assert made.returncode == 0, made.stdout
    fresh = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*_pb2*")}
    kept = {
        path.relative_to(PROTO): path.read_bytes()
        for path in PROTO.rglob("*_pb2*")
        if path.name.endswith(GENERATED)
    }
    stale = {path for path in fresh | kept if fresh.get(path) != kept.get(path)}
    assert not stale, "run `make proto`"


def test_buf_finds_nothing() -> None:
    checked = run(sys.executable, PROTO / "generate.py", "lint")
    assert checked.returncode == 0, checked.stdout


def test_a_changed_meaning_is_caught(tmp_path: Path) -> None:
    copy = tmp_path / "proto"
    shutil.copytree(PROTO, copy)
    contract = copy / "aisle" / "v1" / "money.proto"
    contract.write_text(contract.read_text().replace("int64 units = 2", "int64 units = 4"))
    checked = run(sys.executable, copy / "generate.py", "lint")
    assert checked.returncode != 0
    assert 'Previously present field "2" with name "units"' in checked.stdout


@pytest.mark.parametrize("file", SERVICES, ids=lambda file: file.name)
def test_every_method_is_named_and_has_a_path(file: FileDescriptor) -> None:
    (service,) = file.services_by_name.values()
    assert tuple(method.name for method in service.methods) == SERVICES[file]
    paths = [http_path(method) for method in service.methods]
    assert all(path.startswith("/v1/") for path in paths)
    assert not [path for path in paths if "user" in path and "{" in path], (
        "ids leak into access logs"
    )


def http_path(method: MethodDescriptor) -> str:
    """The path that JSON clients post to."""
    options: Any = method.GetOptions()
    return str(options.Extensions[annotations_pb2.http].post)


def test_kinds_and_corpora_are_those_of_the_stored_tables() -> None:
    kinds = [name.removeprefix("EVENT_KIND_").lower() for name in event_pb2.EventKind.keys()[1:]]
    assert tuple(kinds) == EVENT_KINDS
    corpora = [name.removeprefix("CORPUS_").lower() for name in corpus_pb2.Corpus.keys()[1:]]
    assert tuple(corpora) == CORPORA


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_events_of_the_item_kinds_need_an_item(kind: EventKind) -> None:
    event = event_pb2.Event(
        user_id="ada", kind=event_pb2.EventKind.Value(f"EVENT_KIND_{kind.name}")
    )
    assert ("event.item" in broken_rules(event)) == (kind in ITEM_KINDS)


def test_one_bad_event_spoils_no_batch() -> None:
    bad = event_pb2.Event(event_id="e" * (MAX_ID_LENGTH + 1))
    assert broken_rules(bad) == {"event.who", "kind:enum.not_in", "event_id:string.max_len"}
    assert broken_rules(event_pb2.WriteEventsRequest(events=[bad])) == set()
    assert broken_rules(event_pb2.WriteEventsRequest()) == {"events:repeated.min_items"}


def test_a_page_with_no_user_is_a_good_request() -> None:
    assert broken_rules(recommendation_pb2.RecommendRequest(placement="home")) == set()


def test_a_bad_request_is_told_everything_at_once() -> None:
    request = recommendation_pb2.RecommendRequest(
        user_id="u" * (MAX_ID_LENGTH + 1),
        session_items=[context_pb2.SessionItem()],
        context=context_pb2.Context(
            locale="no locale",
            basket=[context_pb2.BasketLine(item_id="42", amount=money_pb2.Money(units=-1))],
        ),
        corpora=[recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_PRODUCT)] * 2,
        page_size=-1,
        exclude_ids=[""],
        view=slate_pb2.ItemView.ValueType(99),
        diversity=1.5,
    )
    assert broken_rules(request) == {
        "user_id:string.max_len",
        "session_items.item_id:string.min_len",
        "context.locale:string.pattern",
        "context.basket.amount.units:int64.gte_lte",
        "placement:string.pattern",
        "corpora:recommend.corpora",
        "page_size:int32.gte",
        "exclude_ids:string.min_len",
        "view:enum.defined_only",
        "diversity:float.gte_lte",
    }


def test_money_is_google_money_on_the_wire() -> None:
    ours = money_pb2.Money(currency_code="USD", units=2, nanos=490_000_000)
    theirs = google_money_pb2.Money.FromString(ours.SerializeToString())
    assert (theirs.currency_code, theirs.units, theirs.nanos) == ("USD", 2, 490_000_000)
