"""What went wrong, told once: to the log, and to whom the application named."""

import logging
from collections.abc import Callable

from upshot.errors import UpshotError

log = logging.getLogger("upshot.sdk")

OnError = Callable[[UpshotError], None]


class Reports:
    """Tells an error once per subject, until that subject is well again. Never raises."""

    def __init__(self, on_error: OnError | None = None) -> None:
        self._on_error = on_error
        self._told: set[str] = set()
        self.last: str | None = None
        """The code of the last error, told or not."""

    def tell(self, subject: str, error: UpshotError, code: str | None = None) -> None:
        """Tell that the subject is unwell; a second time only after `well`."""
        self.last = code or error.code
        if subject in self._told:
            return
        self._told.add(subject)
        log.warning("%s: %s", subject, error.detail)
        if self._on_error is not None:
            try:
                self._on_error(error)
            except Exception:
                log.exception("on_error failed")

    def well(self, subject: str) -> None:
        """The subject works."""
        self._told.discard(subject)
