"""Links by which the result of one experiment can be read without an account.

The secret stands in an address, which browsers keep and people forward: it opens one result to be read, no more, and can be taken
back. Of it only a digest is kept.
"""

from dataclasses import dataclass
from datetime import datetime

SECRET_LETTERS = 43  # 256 random bits
LONGEST_DAYS = 400


@dataclass(frozen=True, slots=True)
class Share:
    """A link to the result of an experiment; `expires_at` None is for good."""

    id: str
    experiment_id: str
    digest: str
    created_by_name: str
    created_at: datetime
    expires_at: datetime | None

    def active(self, now: datetime) -> bool:
        """Whether it opens the result at that moment."""
        return self.expires_at is None or now < self.expires_at
