"""A bundle made ready to serve: its arrays mapped, a pipeline for each placement.

Immutable: a new champion is a new snapshot, and the engine changes from one to the other in
a single assignment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import faiss
import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.content.columns import has_content
from feature_store.language.encoder import embedded_encoder
from feature_store.ranking import MODEL_FILE
from feature_store.schema import Corpus
from feature_store.state import STATE_LAYOUT
from feature_store.two_tower import has_two_tower
from online.catalog import Catalog, open_catalog
from online.chat.learned import open_understanding
from online.chat.understanding import Understander
from online.content.library import Library, open_library
from online.content.search import ContentSearch, open_search
from online.content.shelf import ContentShelf
from online.corpora import Shelf
from online.coupons.columns import open_coupons
from online.coupons.shelf import CouponShelf
from online.coupons.valuing import open_models
from online.errors import RequestError, SnapshotError
from online.offering.allowed import AllowedFilter
from online.offering.attributes import open_attributes, with_room
from online.offering.experiments import Experiment, compile_experiments
from online.offering.rules import RULES_FILE, read_rules
from online.offering.shop import Offering, Shop
from online.pipeline import Pipeline, SizedSource
from online.placements import PLACEMENTS, POPULAR_LISTS, Placement, SourceUse
from online.search.opening import ProductSearch, open_product_search
from online.stages.browsing import browsing_sources
from online.stages.discovery import Affinity, Linear
from online.stages.neighbours import NEXT_IN_VISIT, neighbour_sources
from online.stages.ranker import Ranker, open_ranker
from online.stages.scorers import Blend
from online.stages.selectors import Likeness, Varied
from online.stages.sources import AlsForUser, AlsSimilar, Popular, Repeat
from online.stages.towers import open_two_tower
from online.stages.vectors import VectorIndex
from online.stages.visitors import ForVisitors
from online.types import Filter, Request, Scorer, Selector, Source


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one bundle serves: products by pipelines, other corpora by shelves.

    `product_values` is how often products were acted on by their place, see `online.mixing`; None:
    not measured. `understander` None: the bundle has no models of language, `search` None: nothing
    to read, `product_search` None: searches are not minded.
    """

    bundle: Bundle
    catalog: Catalog
    shop: Offering
    placements: Mapping[str, Placement]
    pipelines: Mapping[str, Pipeline]
    shelves: Mapping[Corpus, Shelf] = field(default_factory=dict)
    product_values: NDArray[np.float32] | None = None
    understander: Understander | None = None
    search: ContentSearch | None = None
    product_search: ProductSearch | None = None
    experiments: tuple[Experiment, ...] = ()

    @property
    def model_version(self) -> str:
        """The id of the bundle, which every answer carries."""
        return self.bundle.bundle_id

    def pipeline_of(self, request: Request) -> Pipeline:
        """The pipeline that answers a request; with a search's sources where it has one."""
        pipeline = self.pipelines[request.placement]
        if not request.query or self.product_search is None:
            return pipeline
        return self.product_search.added_to(pipeline, self.placements[request.placement])

    def placement(self, name: str) -> Placement:
        """The row of that name; RequestError when the table has none."""
        row = self.placements.get(name)
        if row is None:
            names = ", ".join(sorted(self.placements))
            raise RequestError("placement", f"unknown placement, use one of: {names}")
        return row


def open_snapshot(bundle: Bundle) -> Snapshot:
    """Map a bundle's arrays and build the pipelines.

    Raises SnapshotError when it has no items, or was trained on states of another layout.
    """
    if bundle.manifest.feature_schema_version != STATE_LAYOUT:
        raise SnapshotError(
            f"bundle {bundle.directory} was trained on user states of another layout than this "
            "release keeps; serve it with the release that made it, or train again"
        )
    catalog = open_catalog(bundle)
    if not len(catalog):
        raise SnapshotError(f"bundle {bundle.directory} holds no items; train it on more data")
    attributes = open_attributes(bundle)
    shown = with_room(bundle, attributes)
    rules = read_rules(bundle.json(RULES_FILE), tuple(PLACEMENTS))
    shop = Shop(catalog, attributes, PLACEMENTS, rules, shown)
    everything = (
        *_sources(bundle),
        *neighbour_sources(bundle, catalog),
        *browsing_sources(bundle, shown),
    )
    sources = {source.name: source for source in everything}
    filters = (AllowedFilter(),)
    selector = Varied(Likeness(bundle.column("als_similar/vectors"), shown.path, shown.brand))
    ranker = _ranker(bundle)
    pipelines = {
        name: _pipeline(row, sources, filters, ranker, selector) for name, row in PLACEMENTS.items()
    }
    library = open_library(bundle, catalog) if has_content(bundle) else None
    encoder = embedded_encoder()
    understanding = open_understanding(bundle, encoder)
    return Snapshot(
        bundle,
        catalog,
        shop,
        PLACEMENTS,
        pipelines,
        _shelves(bundle, catalog, library),
        understander=understanding,
        search=open_search(bundle, library, encoder) if library else None,
        product_search=open_product_search(
            *(bundle, attributes, understanding, encoder),
            is_loaded=understanding is not None or library is not None,
        ),
        experiments=compile_experiments(rules, attributes, shown),
    )


def _shelves(bundle: Bundle, catalog: Catalog, library: Library | None) -> dict[Corpus, Shelf]:
    """The corpora beside products that the bundle has."""
    shelves: dict[Corpus, Shelf] = {}
    coupons = open_coupons(bundle, catalog)
    if library is not None:
        shelves[Corpus.CONTENT] = ContentShelf(library)
    if coupons is not None:
        shelves[Corpus.COUPON] = CouponShelf(coupons, catalog, open_models(bundle, coupons))
    return shelves


def _sources(bundle: Bundle) -> tuple[Source, ...]:
    settings = bundle.json("serving.json")
    profile_half_life = settings["profile_half_life"]
    return (
        *(_popular(bundle, name) for name in POPULAR_LISTS),
        Repeat("repeat", settings["repeat_half_life"]),
        AlsForUser(
            name="als",
            index=_vector_index(bundle, "als"),
            gram=bundle.array("als/gram"),
            alpha=settings["als_alpha"],
            half_life=profile_half_life,
        ),
        AlsSimilar("als_similar", _vector_index(bundle, "als_similar")),
        Linear(
            name="linear",
            row=bundle.column("linear/row"),
            neighbours=bundle.array("linear/neighbours"),
            weights=bundle.array("linear/weights"),
            half_life=profile_half_life,
        ),
        Affinity(
            name="affinity",
            groups=bundle.column("ranking/groups"),
            appeal=bundle.column("affinity/appeal"),
            order=bundle.array("affinity/order"),
            starts=bundle.array("affinity/starts"),
        ),
        *((open_two_tower(bundle),) if has_two_tower(bundle) else ()),
    )


def _popular(bundle: Bundle, name: str) -> Popular:
    return Popular(
        name,
        bundle.array(f"{name}/order"),
        bundle.array(f"{name}/score"),
        bundle.column(f"{name}/rank"),
    )


def _vector_index(bundle: Bundle, name: str) -> VectorIndex:
    path = bundle.path(f"{name}/index.faiss")
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    return VectorIndex(index, bundle.column(f"{name}/vectors"))


def _ranker(bundle: Bundle) -> Ranker | None:
    """The bundle's ranker for the sources of the ranked placements; None without one."""
    if MODEL_FILE not in bundle.manifest.files:
        return None
    return open_ranker(bundle)


def _pipeline(
    row: Placement,
    sources: Mapping[str, Source],
    filters: tuple[Filter, ...],
    ranker: Ranker | None,
    selector: Selector,
) -> Pipeline:
    uses = [use for use in row.sources if use.source in sources or not use.is_optional]
    names = [use.source for use in uses]
    weights = np.array([use.weight for use in uses], np.float32)
    blend = Blend("scorer.blend", weights)
    scorer: Scorer = blend
    if row.is_ranked and ranker is not None:
        ranked = ranker.over(names)
        scorer = ForVisitors(ranked, blend) if NEXT_IN_VISIT in names else ranked
    return Pipeline(
        sources=tuple(_sized(use, sources[use.source]) for use in uses),
        filters=filters,
        scorer=scorer,
        selector=selector,
        fallback=sources["popular"],
    )


def _sized(use: SourceUse, source: Source) -> SizedSource:
    size_new = use.size if use.size_new is None else use.size_new
    return SizedSource(source, use.size, size_new, use.only_new)
