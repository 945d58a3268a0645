"""The blocks that store what is new in a group."""

from collections.abc import Sequence

from upshot.eventstore import Verdict
from upshot.eventstore.appends import Group, new
from upshot.eventstore.clickhouse import blocks, schema
from upshot.eventstore.clickhouse.blocks import Block, KeysOf
from upshot.eventstore.clickhouse.dictionary import client_key, type_key


def blocks_of(group: Group, verdicts: Sequence[Verdict], keys_of: KeysOf) -> list[Block]:
    """What is new, in the order in which it must be inserted: what is stored but not known yet can come again."""
    made: list[Block] = []
    for_events, for_exposures = group.parted(verdicts)
    if events := new(group.events, for_events):
        types = [type_key(client, event.event_type) for client, event in events]
        made.append(blocks.of_events(events, new(group.event_ids, for_events), types, keys_of))
    if exposures := new(group.exposures, for_exposures):
        clients = [client_key(exposure.client) for exposure in exposures]
        made.append(blocks.of_exposures(exposures, new(group.exposure_ids, for_exposures), clients, keys_of))
    if made:
        made.append(blocks.of_identities(new(group.ids, verdicts), new(group.fingerprints, verdicts)))
    if repeats := group.repeats(verdicts):
        rows = [(type_key(*kind), *counts) for kind, counts in repeats.items()]
        made.append(blocks.of_rows(schema.REPEATS, rows))
    return made
