"""An export that will not be sent lets go of the money that was set aside for its coupons.

Its folder stays, but is not whole any more: exported again, its parts are made and paid for anew.
"""

from contextlib import closing
from pathlib import Path

from feature_store.ledger import open_ledger
from offline.campaigns.coupon_money import release_mailings
from offline.campaigns.parts import PLAN, Folder
from offline.errors import CampaignError
from offline.home import Home


def abandon(home: Home, export: Path) -> int:
    """Free what the mailings of an export, or of its shards, hold; how many sums that were.

    Raises CampaignError where no export is, LedgerError when the ledger cannot be reached.
    """
    name = f"{PLAN}.json"
    plans = sorted([*export.glob(name), *export.glob(f"shard-*-of-*/{name}")])
    if not plans:
        raise CampaignError(f"{export} holds no export of a campaign")
    num_sums = 0
    with closing(open_ledger(home.ledger)) as ledger:
        for folder in (Folder(plan.parent) for plan in plans):
            folder.unfinish()
            if mailing := folder.frozen().get("mailing"):
                num_sums += release_mailings(ledger, f"{mailing}.")
    return num_sums
