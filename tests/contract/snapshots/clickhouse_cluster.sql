CREATE DATABASE IF NOT EXISTS `upshot` ON CLUSTER `shards`;

CREATE TABLE IF NOT EXISTS `upshot`.clients_local ON CLUSTER `shards` (
  client_key Int64,
  client String,
  seq Int64 DEFAULT -toUnixTimestamp64Nano(now64(9))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', seq)
PARTITION BY tuple()
ORDER BY (client_key, client)
SETTINGS replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS `upshot`.clients ON CLUSTER `shards` AS `upshot`.clients_local
ENGINE = Distributed(`shards`, `upshot`, clients_local, intHash64(client_key));

CREATE TABLE IF NOT EXISTS `upshot`.event_types_local ON CLUSTER `shards` (
  type_key Int64,
  client_key Int64,
  name String,
  seq Int64 DEFAULT -toUnixTimestamp64Nano(now64(9))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', seq)
PARTITION BY tuple()
ORDER BY (client_key, type_key, name)
SETTINGS replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS `upshot`.event_types ON CLUSTER `shards` AS `upshot`.event_types_local
ENGINE = Distributed(`shards`, `upshot`, event_types_local, intHash64(type_key));

CREATE TABLE IF NOT EXISTS `upshot`.events_local ON CLUSTER `shards` (
  type_key Int64,
  user_key Int64,
  occurred_at Int64,
  received_at Int64,
  value Nullable(Float64),
  flags Int16,
  id_high Int64,
  id_low Int64,
  fingerprint Int64,
  user_id String,
  event_id String,
  experiment_id Nullable(String),
  properties String,
  ordinal Nullable(Int64),
  seq Int64 DEFAULT -toUnixTimestamp64Nano(now64(9)),
  INDEX arrived seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', seq)
PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(occurred_at, 'UTC'))
ORDER BY (type_key, user_key, id_high, id_low)
SETTINGS replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS `upshot`.events ON CLUSTER `shards` AS `upshot`.events_local
ENGINE = Distributed(`shards`, `upshot`, events_local, intHash64(user_key));

CREATE TABLE IF NOT EXISTS `upshot`.exposures_local ON CLUSTER `shards` (
  client_key Int64,
  experiment Int64,
  user_key Int64,
  variant Int16,
  phase Int16,
  exposed_at Int64,
  id_high Int64,
  id_low Int64,
  user_id String,
  context String,
  seq Int64 DEFAULT -toUnixTimestamp64Nano(now64(9))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', seq)
PARTITION BY tuple()
ORDER BY (client_key, experiment, user_key, id_high, id_low)
SETTINGS replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS `upshot`.exposures ON CLUSTER `shards` AS `upshot`.exposures_local
ENGINE = Distributed(`shards`, `upshot`, exposures_local, intHash64(user_key));

CREATE TABLE IF NOT EXISTS `upshot`.identities_local ON CLUSTER `shards` (
  id_high Int64,
  id_low Int64,
  fingerprint Int64,
  seq Int64 DEFAULT -toUnixTimestamp64Nano(now64(9))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', seq)
PARTITION BY tuple()
ORDER BY (id_high, id_low)
SETTINGS replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1, index_granularity = 256;

CREATE TABLE IF NOT EXISTS `upshot`.identities ON CLUSTER `shards` AS `upshot`.identities_local
ENGINE = Distributed(`shards`, `upshot`, identities_local, intHash64(id_high));

CREATE TABLE IF NOT EXISTS `upshot`.repeats_local ON CLUSTER `shards` (
  type_key Int64,
  duplicates Int64,
  conflicts Int64
)
ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', (duplicates, conflicts))
PARTITION BY tuple()
ORDER BY (type_key)
SETTINGS replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS `upshot`.repeats ON CLUSTER `shards` AS `upshot`.repeats_local
ENGINE = Distributed(`shards`, `upshot`, repeats_local, intHash64(type_key));

CREATE TABLE IF NOT EXISTS `upshot`.marks_local ON CLUSTER `shards` (
  mark Int64,
  client_key Int64,
  type_key Int64,
  experiment Int64,
  grain Int64,
  starts Int64
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', mark)
PARTITION BY tuple()
ORDER BY (type_key, client_key, experiment, grain, starts, mark)
SETTINGS replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS `upshot`.marks ON CLUSTER `shards` AS `upshot`.marks_local
ENGINE = Distributed(`shards`, `upshot`, marks_local, intHash64(starts));

ALTER TABLE `upshot`.events_local ON CLUSTER `shards` ADD COLUMN IF NOT EXISTS ordinal Nullable(Int64) AFTER properties;

ALTER TABLE `upshot`.events ON CLUSTER `shards` ADD COLUMN IF NOT EXISTS ordinal Nullable(Int64) AFTER properties;

ALTER TABLE `upshot`.events_local ON CLUSTER `shards` ADD INDEX IF NOT EXISTS arrived seq TYPE minmax GRANULARITY 1;

CREATE TABLE IF NOT EXISTS `upshot`.aliases ON CLUSTER `shards` (
  client_key Int64,
  alias_key Int64,
  user_key Int64,
  user_id String,
  seq Int64 DEFAULT -toUnixTimestamp64Nano(now64(9))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/{database}/{table}', '{shard}-{replica}', seq)
PARTITION BY tuple()
ORDER BY (client_key, alias_key)
SETTINGS replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS `upshot`.withdrawals ON CLUSTER `shards` (
  client_key Int64,
  experiment Int64,
  user_key Int64,
  reason String,
  seq Int64 DEFAULT -toUnixTimestamp64Nano(now64(9))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/{database}/{table}', '{shard}-{replica}', seq)
PARTITION BY tuple()
ORDER BY (client_key, experiment, user_key)
SETTINGS replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS `upshot`.events_marks ON CLUSTER `shards`
TO `upshot`.marks_local AS
SELECT toInt64(if(starts + grain > toUnixTimestamp64Micro(now64(6)), cityHash64(client_key, type_key, experiment, grain, starts), rand64())) AS mark, *
FROM (
  SELECT DISTINCT toInt64(0) AS client_key, type_key, toInt64(0) AS experiment, arrayJoin([3600000000, 86400000000]) AS grain, occurred_at - occurred_at % grain AS starts
  FROM `upshot`.events_local
);

CREATE MATERIALIZED VIEW IF NOT EXISTS `upshot`.exposures_marks ON CLUSTER `shards`
TO `upshot`.marks_local AS
SELECT toInt64(if(starts + grain > toUnixTimestamp64Micro(now64(6)), cityHash64(client_key, type_key, experiment, grain, starts), rand64())) AS mark, *
FROM (
  SELECT DISTINCT client_key, toInt64(0) AS type_key, experiment, arrayJoin([3600000000, 86400000000]) AS grain, exposed_at - exposed_at % grain AS starts
  FROM `upshot`.exposures_local
);

INSERT INTO `upshot`.marks (mark, client_key, type_key, experiment, grain, starts) SETTINGS distributed_foreground_insert = 1
SELECT toInt64(if(starts + grain > toUnixTimestamp64Micro(now64(6)), cityHash64(client_key, type_key, experiment, grain, starts), rand64())) AS mark, *
FROM (
  SELECT DISTINCT client_key, toInt64(0) AS type_key, experiment, arrayJoin([3600000000, 86400000000]) AS grain, exposed_at - exposed_at % grain AS starts
  FROM `upshot`.exposures
);

CREATE TABLE IF NOT EXISTS `upshot`.rollups_local ON CLUSTER `shards` (
  client_key Int64,
  experiment Int64,
  type_key Int64,
  grain Int64,
  starts Int64,
  variant Int16,
  phase Int16,
  users Int64,
  events Int64,
  late Int64,
  total Float64,
  mean Float64,
  variance Float64,
  count_mean Float64,
  count_variance Float64,
  version Int64
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', version)
PARTITION BY tuple()
ORDER BY (client_key, experiment, type_key, grain, starts, variant, phase)
SETTINGS replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS `upshot`.rollups ON CLUSTER `shards` AS `upshot`.rollups_local
ENGINE = Distributed(`shards`, `upshot`, rollups_local, intHash64(type_key));
