/** The golden vectors, which every implementation gives. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { bucket, choose, decide, evaluate, hash64, matches } from "../dist/upshot.js";

const read = (name) => JSON.parse(readFileSync(new URL(`../../../vectors/${name}.json`, import.meta.url), "utf8"));

test("hashes, buckets and choices", () => {
  const vectors = read("assignment");
  for (const { parts, hash } of vectors.hash64) assert.equal(hash64(...parts).toString(), hash);
  for (const each of vectors.bucket) assert.equal(bucket(BigInt(each.hash), each.total), each.bucket);
  for (const each of vectors.choose) assert.equal(choose(each.weights, hash64(each.salt, each.user_id)), each.index);
});

test("rules", () => {
  const cases = read("targeting").cases.filter(({ error }) => error === undefined);
  assert.ok(cases.length > 200);
  for (const { rule, context, matches: wanted } of cases) {
    assert.equal(matches(rule, context), wanted, JSON.stringify([rule, context]));
  }
});

/** How many golden answers a way to decide gets wrong. */
function wrong(document, cases, deciding) {
  let count = 0;
  for (const { user_id, context, now, experiments, flags } of cases) {
    for (const entry of document.experiments) {
      const { variant, reason } = deciding(entry, user_id, context);
      count += (variant?.name ?? null) !== experiments[entry.key].variant || reason !== experiments[entry.key].reason;
    }
    for (const flag of document.flags) {
      const entry = document.experiments.find(({ id }) => id === flag.experiment);
      const found = evaluate(flag, user_id, context, new Date(now), entry, entry && deciding(entry, user_id, context));
      const { value, reason, variant } = flags[flag.key];
      count += JSON.stringify([found.value, found.reason, found.variant]) !== JSON.stringify([value, reason, variant]);
    }
  }
  return count;
}

test("decisions and flags; one that forgets layers is caught", () => {
  const { document, cases } = read("decisions");
  assert.equal(wrong(document, cases, decide), 0);
  assert.ok(wrong(document, cases, (entry, ...rest) => decide({ ...entry, layers: [] }, ...rest)) > 0);
});
