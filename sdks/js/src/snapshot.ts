/** What decides: the document of `GET /sdk/config`, format 1, and the decisions and flags that follow from it. */

import { bucket, choose, hash64 } from "./hash.js";
import { type Context, type Rule, matches } from "./targeting.js";

const WHOLE = 1_000_000;

export interface Arm {
  id: string;
  name: string;
  is_control: boolean;
  weight: number;
  config: unknown;
}

export interface Experiment {
  id: string;
  key: string;
  status: string;
  phase: number;
  salt: string;
  traffic: number;
  targeting: Rule;
  variants: Arm[];
  layers: { salt: string; ranges: [number, number][] }[];
  holdouts: { salt: string; share: number }[];
  overrides: { variant: string; users: string[]; targeting: Rule | null }[];
  winner: string | null;
}

export interface Flag {
  key: string;
  type: "boolean" | "string" | "integer" | "number" | "object";
  default: unknown;
  enabled: boolean;
  salt: string;
  experiment: string | null;
  values: Record<string, unknown>;
  rollout: { value: unknown; targeting: Rule; steps: { at: string | null; share: number }[] } | null;
}

/** The document. */
export interface Snapshot {
  format: 1;
  experiments: Experiment[];
  flags: Flag[];
}

/** A variant, or the reason why there is none. */
export interface Decision {
  variant: Arm | null;
  reason: string;
}

/** A flag's value, OpenFeature's reason for it, and the variant that gives it. */
export interface Evaluation {
  value: unknown;
  reason: string;
  variant: string | null;
}

const slice = (...parts: string[]): number => bucket(hash64(...parts), WHOLE);
const named = (experiment: Experiment, name: string): Arm => experiment.variants.find((arm) => arm.name === name)!;
const held = (experiment: Experiment, user: string): boolean =>
  experiment.holdouts.some((holdout) => slice("holdout", holdout.salt, user) < holdout.share);

/** What a user without a stored assignment gets in an experiment. */
export function decide(experiment: Experiment, user: string, context: Context): Decision {
  const { salt, overrides, layers, traffic, variants } = experiment;
  if (overrides.length) {
    const hashed = hash64("override", salt, user).toString(16).padStart(16, "0");
    const found = overrides.find(
      ({ users, targeting }) => users.includes(hashed) || (targeting !== null && matches(targeting, context)),
    );
    if (found) return { variant: named(experiment, found.variant), reason: "overridden" };
  }
  let reason = "assigned";
  if (experiment.status !== "running") reason = "not_running";
  else if (!matches(experiment.targeting, context)) reason = "not_targeted";
  else if (held(experiment, user)) reason = "held_out";
  else if (
    (traffic < WHOLE && slice("traffic", salt, user) >= traffic)
    || !layers.every((layer) => {
      const place = slice("layer", layer.salt, user);
      return layer.ranges.some(([start, end]) => start <= place && place < end);
    })
  ) reason = "not_in_traffic";
  if (reason !== "assigned") return { variant: null, reason };
  return { variant: variants[choose(variants.map((arm) => arm.weight), hash64(salt, user))]!, reason };
}

/** The value of a flag; `decision` is what its experiment gives the user. */
export function evaluate(
  flag: Flag, user: string, context: Context, now: Date, experiment?: Experiment, decision?: Decision,
): Evaluation {
  const fallback = (reason: string): Evaluation => ({ value: flag.default, reason, variant: null });
  const value = (name: string, reason: string): Evaluation => ({
    value: Object.hasOwn(flag.values, name) ? flag.values[name] : flag.default, reason, variant: name,
  });
  if (!flag.enabled) return fallback("DISABLED");
  if (experiment && decision) {
    const name = decision.variant?.name;
    if (name !== undefined && decision.reason === "overridden") return value(name, "TARGETING_MATCH");
    if (experiment.winner !== null) return held(experiment, user) ? fallback("DEFAULT") : value(experiment.winner, "STATIC");
    if (experiment.status === "paused") return fallback("DISABLED");
    if (experiment.status === "running" && name !== undefined) return value(name, "SPLIT");
  }
  const rollout = flag.rollout;
  if (!rollout || !matches(rollout.targeting, context)) return fallback("DEFAULT");
  const share = rollout.steps.reduce((reached, { at, share }) => (at === null || new Date(at) <= now ? share : reached), 0);
  if (slice("rollout", flag.salt, user) >= share) return fallback("DEFAULT");
  const reason = share < WHOLE ? "SPLIT" : Object.keys(rollout.targeting).length ? "TARGETING_MATCH" : "STATIC";
  return { value: rollout.value, reason, variant: "rollout" };
}
