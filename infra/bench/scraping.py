"""What a server says of itself to Prometheus, as far as a bench wants to know it."""

from dataclasses import dataclass
from typing import Final, Self
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S: Final = 10.0
CANDIDATES: Final = "aisle_candidates"
STAGES: Final = "aisle_stage_duration_seconds"
SOURCE: Final = "source."


@dataclass(frozen=True, slots=True)
class Work:
    """How many answers have been ranked, candidates in all of them, and runs of each source."""

    num_ranked: float
    num_candidates: float
    num_runs: dict[str, float]

    @classmethod
    def of(cls, address: str) -> Self:
        """What a server has done until its last heartbeat; OSError when it does not say."""
        with urlopen(f"http://{address}/metrics", timeout=TIMEOUT_S) as reply:
            families = list(text_string_to_metric_families(reply.read().decode()))
        samples = [sample for family in families for sample in family.samples]
        counts = {sample.name: sample.value for sample in samples if not sample.labels}
        return cls(
            num_ranked=counts.get(f"{CANDIDATES}_count", 0.0),
            num_candidates=counts.get(f"{CANDIDATES}_sum", 0.0),
            num_runs={
                sample.labels["stage"]: sample.value
                for sample in samples
                if sample.name == f"{STAGES}_count" and sample.labels["stage"].startswith(SOURCE)
            },
        )

    def since(self, before: "Work") -> dict[str, float]:
        """Sources that nearly every answer since then has asked, and candidates of each."""
        num_ranked = self.num_ranked - before.num_ranked
        runs = [num - before.num_runs.get(name, 0.0) for name, num in self.num_runs.items()]
        num_candidates = self.num_candidates - before.num_candidates
        return {
            "num_sources": sum(num > 0.9 * num_ranked > 0 for num in runs),
            "num_candidates": round(num_candidates / max(num_ranked, 1.0), 1),
        }
