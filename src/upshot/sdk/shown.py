"""Who was shown what, so that each exposure is told once."""

MOST = 100_000


class Shown:
    """Bounded memory of (experiment, user) → variant: of the last `most` at least half, the least recently asked for forgotten.

    Two generations instead of one ordered list: who is asked for moves to the young one; when that holds half of `most`, the old
    one is forgotten and the young one becomes old. So a look costs one lookup and no write. `of` may be read without a lock, all
    else needs one.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most // 2
        self._young: dict[str, dict[str, str]] = {}
        self._old: dict[str, dict[str, str]] = {}
        self._count = 0

    def of(self, experiment: str) -> dict[str, str]:
        """The young part of an experiment's users, with their variants; always the same dictionary, to be read only."""
        return self._young.setdefault(experiment, {})

    def knows(self, experiment: str, user_id: str, variant: str) -> bool:
        """Whether the user was shown that variant; then remembered anew."""
        if self._young.get(experiment, {}).get(user_id) == variant:
            return True
        if self._old.get(experiment, {}).get(user_id) != variant:
            return False
        self.add(experiment, user_id, variant)
        return True

    def add(self, experiment: str, user_id: str, variant: str) -> None:
        """Remember that the user was shown the variant."""
        if self._count >= self._most:
            self._old = {name: dict(users) for name, users in self._young.items() if users}
            for users in self._young.values():
                users.clear()
            self._count = 0
        self._count += 1
        self.of(experiment)[user_id] = variant

    def forget(self, experiment: str, user_id: str) -> None:
        """The exposure did not arrive: it is to be told anew."""
        self.of(experiment).pop(user_id, None)
        self._old.get(experiment, {}).pop(user_id, None)
