"""Why a piece of content or a coupon is, or is not, in the slate of a request.

Its corpus says where it stands; the slate of all corpora says whether it is there.
"""

from dataclasses import replace

from feature_store.schema import Corpus
from online.answering import products_of, slate_of
from online.corpora import SHELF_STAGE, ask_shelves, needs_products, quotas_of
from online.explain.findings import FilterFinding, Standing
from online.known import Known
from online.pipeline import Attempts, run
from online.snapshot import Snapshot
from online.types import Query, Reason, SlateItem

Beside = tuple[Standing, SlateItem | None]
"""Where an item stands, and its place in the slate if it has one."""


def find_beside(
    snapshot: Snapshot, query: Query, known: Known, item_id: str, attempts: Attempts
) -> Beside | None:
    """What the corpora beside the products know of an item; None when none has it."""
    products: tuple[SlateItem, ...] = ()
    if needs_products(query):
        ranking = run(snapshot.pipeline_of(query.request), query, attempts)
        products = products_of(snapshot, query, ranking)
    for corpus, shelf in snapshot.shelves.items():
        stage = f"{SHELF_STAGE}.{corpus}"
        standing = attempts.stage(stage, None, shelf.stand, query, known, products, item_id)
        if standing is None:
            continue
        offered = ask_shelves(snapshot.shelves, query, known, products, attempts)
        slate = slate_of(snapshot, query, (), products, offered, attempts)
        places = (one for one in slate.items if one.corpus is corpus and one.item == item_id)
        return _among_those_wanted(standing, query, corpus), next(places, None)
    return None


def _among_those_wanted(standing: Standing, query: Query, corpus: Corpus) -> Standing:
    """The standing; its first finding is whether the request has places for the corpus."""
    finding = find_places(query, corpus)
    filters = (finding, *standing.filters)
    if not finding.kept or not standing.rank:
        return Standing(0, 0.0, standing.sources, filters, ())
    return replace(standing, filters=filters)


def find_places(query: Query, corpus: Corpus) -> FilterFinding:
    """Whether the request has places for a corpus."""
    quotas = quotas_of(query.request, query.num_wanted)
    has_place = any(quota.corpus is corpus and quota.num != 0 for quota in quotas)
    return FilterFinding("corpora", has_place, Reason("request_corpora", {"corpus": corpus}))
