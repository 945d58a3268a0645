"""The steps from one schema to the next, run by Alembic; loaded only where there are some to run."""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from upshot.errors import ConfigurationError

# What a step works on is a global of Alembic: of two threads one would change the other's database.
_one_at_a_time = threading.Lock()


def run(connection: Connection, scripts: Path, revision: str | None) -> None:
    """Run what comes after a revision, or all without one.

    Raises:
        ConfigurationError: a newer version of the program made the database.
    """
    config = Config()
    config.set_main_option("script_location", str(scripts))
    directory = ScriptDirectory.from_config(config)
    if revision is not None and revision not in {script.revision for script in directory.walk_revisions()}:
        raise ConfigurationError(
            f"DATABASE_URL: the database is at schema {revision}, which this version does not know (it is at "
            f"{directory.get_current_head()}); run the version that made it, or a newer one"
        )
    config.attributes["connection"] = connection
    with _one_at_a_time:
        command.upgrade(config, "head")
