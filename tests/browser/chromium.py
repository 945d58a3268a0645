"""The installed Chromium, and the people whom tests sign in as."""

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage")  # fmt: skip
PLACES = ("chromium", "chromium-browser", "google-chrome")
HOW = "apt-get install chromium"
PASSWORD = "four unrelated wordy things"  # noqa: S105 - of accounts that live for one test
ROLES = ("viewer", "editor", "admin")
