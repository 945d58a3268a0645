"""Which events and exposures are stored already: an index from 128-bit identity to content fingerprint, in RocksDB.

A unique index inside the column store slows down as the table grows; a log-structured index with Bloom filters answers "never
seen", which is nearly always the answer, without touching the disk. The index is derived: the table is the truth. It is
written after the table's commit, each batch together with the table's sequence number up to which it is complete, and at the
start it catches up from there. So it may be behind after a crash, never ahead, and may be deleted at any time.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from rocksdict import BlockBasedOptions, Cache, DbClosedError, DBCompressionType, Options, Rdict, WriteBatch

from upshot.eventstore.keys import identities

_COMPLETE = b"complete"  # 8 bytes; identities are 16 bytes long
_BLOOM_BITS = 10
_WRITE_BUFFER = 16 << 20
_BLOCK_CACHE = 32 << 20
_BATCH = 50_000

log = logging.getLogger(__name__)


class Identities:
    """The index in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = _open(folder)
        self._failed = False  # the last attempt to write to it

    @property
    def complete(self) -> int:
        """The sequence number up to which every stored row is in the index; -1 when there is none, or that cannot be said."""
        value = None if self._failed else self._index.get(_COMPLETE)
        return int.from_bytes(value, "big", signed=True) if value is not None else -1

    def fingerprints(self, keys: Sequence[bytes]) -> list[int | None]:
        """The fingerprint of each identity, or None for one that was never stored."""
        found: Any = self._index.get(list(keys)) if keys else []
        return [None if value is None else int.from_bytes(value, "big") for value in found]

    def add(self, entries: Iterator[tuple[bytes, int]], complete: int) -> None:
        """Add identities with their fingerprints; the index is complete up to that sequence number afterwards."""
        self._failed = True
        batch = WriteBatch(raw_mode=True)
        for key, fingerprint in entries:
            batch.put(key, fingerprint.to_bytes(4, "big"))
            if batch.len() >= _BATCH:
                self._index.write(batch)
                batch = WriteBatch(raw_mode=True)
        batch.put(_COMPLETE, complete.to_bytes(8, "big", signed=True))
        self._index.write(batch)
        self._failed = False

    def follow(self, entries: Iterator[tuple[bytes, int]], complete: int) -> None:
        """Add what was just committed. Where that fails the index stays behind, as after a crash, until it catches up."""
        try:
            self.add(entries, complete)
        except Exception as error:  # noqa: BLE001 - the index raises nothing more telling
            log.warning("the index of identities is behind the tables: %s", error)

    def catch_up(self, connection: duckdb.DuckDBPyConnection, last: int) -> None:
        """Bring the index up to the tables, whose highest sequence number is `last`, after a crash or when it was lost."""
        if self._failed:  # opened again it goes on at once where there is room; by itself it looks every five seconds
            with suppress(DbClosedError):
                self._index.close()
            self._index = _open(self._folder)
            self._failed = False
        if not self._made_from(connection):
            self.clear()
        known = self.complete
        for query in (
            "SELECT id_high, id_low, fingerprint FROM events WHERE seq > $1",
            "SELECT id_high, id_low, 0::BIGINT AS fingerprint FROM exposures WHERE seq > $1",
        ):
            cursor = connection.execute(query, [known])
            while rows := cursor.fetchmany(_BATCH):
                high, low, marks = (np.array(column, np.int64) for column in zip(*rows, strict=True))
                self.add(zip(identities(high, low), map(int, marks), strict=True), known)
        self.add(iter(()), last)

    def _made_from(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Whether the last row that the index was told of stands in the tables; if not, they are an older or other copy."""
        if self.complete < 0:
            return True
        query = """SELECT id_high, id_low FROM events WHERE seq = $1
            UNION ALL SELECT id_high, id_low FROM exposures WHERE seq = $1"""
        rows = np.array(connection.execute(query, [self.complete]).fetchall(), np.int64).reshape(-1, 2)
        return any(known is not None for known in self.fingerprints(identities(rows[:, 0], rows[:, 1])))

    def clear(self) -> None:
        """Forget everything: the table is not the one that this index was made from."""
        self._index.close()
        shutil.rmtree(self._folder)
        self._index = _open(self._folder)

    def close(self) -> None:
        """Let go of the folder."""
        self._index.close()


def _open(folder: Path) -> Rdict:
    options = Options(raw_mode=True)
    options.create_if_missing(True)  # noqa: FBT003 - the library's signature
    options.set_write_buffer_size(_WRITE_BUFFER)
    options.set_compression_type(DBCompressionType.none())  # hashes do not compress
    options.set_keep_log_file_num(2)
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(_BLOOM_BITS, block_based=False)
    blocks.set_block_cache(Cache(_BLOCK_CACHE))
    options.set_block_based_table_factory(blocks)
    return Rdict(str(folder), options)
