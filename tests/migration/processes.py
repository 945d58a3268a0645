"""What a process does that migrates. The module is imported once, by the process that all the others are forked from."""

import asyncio
from multiprocessing.connection import Connection

import alembic.command
import asyncmy
import psycopg
import pymysql
from tests.migration.databases import HEAD

import upshot.database.servers
from upshot.control import migrate

__all__ = ["HEAD", "alembic", "asyncmy", "migrating", "psycopg", "pymysql", "upshot"]


def migrating(url: str, told: Connection) -> None:
    """Say that all is there, wait, migrate, and tell the revision."""
    told.send("ready")
    told.recv()
    told.send(asyncio.run(migrate.upgrade(url)))
