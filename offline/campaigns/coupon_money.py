"""The money that a mailing's coupons are expected to take, set aside in the ledger of the page.

A part of an export is one mailing: what its coupons cost on average is reserved before the part is
written, of the campaign's budget and of the coupon's own, and what these do not hold is left out of
its mails, the last mails first. What was decided is noted before it is reserved, so that an export
that is stopped decides the same again. A claim from a mail names its mailing, and uses up what was
set aside by its face value. What nobody claims is free again after some days, or at once when the
export is abandoned or its campaign is exported anew for the same instant. It knows no engine.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.bundle import Bundle
from feature_store.coupons import (
    COUPONS_FILE,
    MICROS,
    campaign_account,
    coupon_account,
    decode_coupons,
    expectation_name,
    to_micros,
)
from feature_store.durable import replace_file
from feature_store.ledger import Charge, Ledger
from feature_store.schema import Corpus
from offline.campaigns.campaign import Campaign

HOLD_DAYS: Final = 30
"""For how many days after the send time money is set aside."""

IS_COUPON: Final = pl.col("slot") == Corpus.COUPON.value


@dataclass(frozen=True, slots=True)
class Costs:
    """By coupon: its campaign, and its face value in micros, None where it is not bounded.

    `budgets`: by coupon campaign, in micros; None: unlimited. `own_budgets`: of the coupons that
    have money of their own.
    """

    campaign_of: Mapping[str, str]
    face_value: Mapping[str, int | None]
    budgets: Mapping[str, int | None]
    own_budgets: Mapping[str, int]

    def is_limited(self, item: str) -> bool:
        """Whether somebody limits what a coupon may take."""
        campaign = self.campaign_of[item]
        return item in self.own_budgets or self.budgets.get(campaign) is not None


def costs_of(bundle: Bundle) -> Costs:
    """What the coupons of a bundle may cost; nothing for one without coupons."""
    if COUPONS_FILE not in bundle.manifest.files:
        return Costs({}, {}, {}, {})
    campaigns, coupons = decode_coupons(bundle.json(COUPONS_FILE))
    return Costs(
        {one.item: one.campaign for one in coupons},
        {one.item: one.discount.face_value for one in coupons},
        {one.campaign: one.budget for one in campaigns},
        {one.item: one.budget for one in coupons if one.budget is not None},
    )


@dataclass(frozen=True, slots=True)
class Purse:
    """Reserves for the parts of one export. `name` is that of the mailing but for the part.

    `read_clock` gives the ledger's time and `expire_time` is when money is free again, both in
    microseconds UTC.
    """

    ledger: Ledger
    costs: Costs
    campaign: Campaign
    name: str
    expire_time: int
    read_clock: Callable[[], int]

    def mailing(self, number: int) -> str:
        """The mailing that claims from the mails of part `number` name."""
        return f"{self.name}.{number:05d}"

    def keep(self, number: int, mails: pl.DataFrame, note: Path) -> pl.DataFrame:
        """The mails of a part, with `mailing` and the coupons whose cost is reserved, no others.

        What is due in the ledger is free again first. Raises LedgerError.
        """
        self.ledger.expire(self.read_clock())
        priced = self._priced(mails)
        while True:
            allowed = json.loads(note.read_bytes()) if note.exists() else self._affordable(priced)
            kept = _within(priced, allowed)
            if not note.exists():
                replace_file(note, json.dumps(allowed, sort_keys=True).encode())
            if self._reserve(number, kept):
                return self._finished(number, mails, kept)
            note.unlink()

    def _priced(self, mails: pl.DataFrame) -> pl.DataFrame:
        """The coupons in the mails with their campaigns and costs; those of unknown cost are gone.

        A coupon without a bound may stand in a mail only if nobody limits it or its campaign.
        """
        coupons = mails.filter(IS_COUPON).select("pseudonym", "item", "score")
        rows = [
            (*row, campaign, cost)
            for row in coupons.iter_rows()
            for campaign, cost in self._cost(row[1], row[2])
        ]
        names = ("pseudonym", "item", "score", "coupon_campaign", "micros")
        dtypes = (pl.String(), pl.String(), pl.Float64(), pl.String(), pl.Int64())
        return pl.DataFrame(rows, dict(zip(names, dtypes, strict=True)), orient="row")

    def _cost(self, item: str, probability: float) -> Iterator[tuple[str, int]]:
        campaign = self.costs.campaign_of[item]
        value = self.costs.face_value[item]
        limited = self.costs.is_limited(item)
        if value is not None:
            yield campaign, round(value * min(max(probability, 0.0), 1.0))
        elif not limited and self.campaign.coupon_budget is None:
            yield campaign, 0

    def _affordable(self, priced: pl.DataFrame) -> dict[str, int]:
        """How much may be expected: by coupon campaign, by account of a coupon, "" of all."""
        accounts = self.ledger.changes(0).accounts
        left = {"": self._own_budget(accounts_spent(accounts, self._own_account))}
        for (campaign,), rows in priced.partition_by("coupon_campaign", as_dict=True).items():
            budget = self.costs.budgets.get(str(campaign))
            spent = accounts_spent(accounts, campaign_account(str(campaign)))
            wanted = int(rows["micros"].sum())
            left[str(campaign)] = wanted if budget is None else max(0, min(wanted, budget - spent))
        for item, budget in self._own_budgets(priced).items():
            account = coupon_account(item)
            left[account] = max(0, budget - accounts_spent(accounts, account))
        return left

    def _own_budgets(self, priced: pl.DataFrame) -> dict[str, int]:
        """The budgets of the coupons that are there and have money of their own."""
        items = priced["item"].unique().sort()
        own = self.costs.own_budgets
        return {item: own[item] for item in items if item in own}

    @property
    def _own_account(self) -> str:
        return f"mails/{self.campaign.campaign}"

    def _own_budget(self, spent: int) -> int:
        budget = self.campaign.coupon_budget
        return 2**53 - 1 if budget is None else max(0, to_micros(budget) - spent)

    def _reserve(self, number: int, kept: pl.DataFrame) -> bool:
        """Set aside what the kept coupons cost; False, and nothing set aside, if that is too much.

        What an earlier run has set aside under the same names is that of the same coupons.
        """
        now_time, mailing = self.read_clock(), self.mailing(number)
        own = self.campaign.coupon_budget
        wanted = [
            (
                f"mails/{mailing}",
                Charge(self._own_account, None if own is None else to_micros(own)),
                int(kept["micros"].sum()),
            )
        ]
        for (campaign,), rows in kept.partition_by("coupon_campaign", as_dict=True).items():
            charge = Charge(campaign_account(str(campaign)), self.costs.budgets.get(str(campaign)))
            name = expectation_name(mailing, str(campaign))
            wanted.append((name, charge, int(rows["micros"].sum())))
        for item, budget in self._own_budgets(kept).items():
            charge = Charge(coupon_account(item), budget)
            name = expectation_name(mailing, coupon_account(item))
            wanted.append((name, charge, int(kept.filter(pl.col("item") == item)["micros"].sum())))
        for place, (name, charge, micros) in enumerate(wanted):
            if not self.ledger.reserve_expected(name, charge, micros, now_time, self.expire_time):
                for earlier, _, _ in wanted[:place]:
                    self.ledger.release_expected(earlier)
                return False
        return True

    def _finished(self, number: int, mails: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
        """The mails without the coupons that are not kept, places counted anew."""
        expected = kept.select(
            "pseudonym", "item", expected_cost=pl.col("micros") / MICROS, is_kept=pl.lit(value=True)
        )
        joined = mails.drop("expected_cost", "mailing").join(
            expected, on=["pseudonym", "item"], how="left", maintain_order="left"
        )
        stays = joined.filter(~IS_COUPON | pl.col("is_kept").fill_null(value=False))
        rank = pl.int_range(1, pl.len() + 1).over("pseudonym").cast(pl.Int32)
        mailing = pl.lit(self.mailing(number)).alias("mailing")
        return stays.with_columns(rank.alias("rank"), mailing).select(mails.columns)


def release_mailings(ledger: Ledger, prefix: str) -> int:
    """Free what is set aside for the mailings whose names begin so; of how many accounts.

    Raises LedgerError.
    """
    of_pages = expectation_name(prefix, "").removesuffix("/")
    return ledger.release_all_expected(of_pages) + ledger.release_all_expected(f"mails/{prefix}")


def accounts_spent(accounts: Mapping[str, object], name: str) -> int:
    """What is used of an account, 0 for one that nobody has used."""
    return int(getattr(accounts.get(name), "spent", 0))


def _within(priced: pl.DataFrame, allowed: Mapping[str, int]) -> pl.DataFrame:
    """The first coupons whose costs add up to no more than allowed, whatever pays for them."""
    left = dict(allowed)
    keep = []
    for item, campaign, micros in priced.select("item", "coupon_campaign", "micros").iter_rows():
        own = coupon_account(item)
        payers = ("", campaign, *((own,) if own in allowed else ()))
        fits = all(micros <= left.get(payer, 0) for payer in payers)
        if fits:
            for payer in payers:
                left[payer] -= micros
        keep.append(fits)
    return priced.filter(pl.Series(keep, dtype=pl.Boolean))
