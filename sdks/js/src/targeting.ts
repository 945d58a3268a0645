/** Targeting: whether a context matches a rule (vectors/targeting.json). Rules come checked from the server. */

type Scalar = string | number | boolean;
export type Context = Record<string, unknown>;
export type Rule = Record<string, unknown>;

const JSON_NUMBER = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$/;
const LABEL = "(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)";
const VERSION = new RegExp(
  "^[vV]?(0|[1-9][0-9]*)(?:\\.(0|[1-9][0-9]*))?(?:\\.(0|[1-9][0-9]*))?"
    + `(?:-(${LABEL}(?:\\.${LABEL})*))?(?:\\+[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*)?$`,
);
const SEARCHED = /^[^\n\r\u2028\u2029]{0,512}$/u;
const BLANKS = "\\t\\n\\v\\f\\r ";

const fold = (text: string): string => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
const text = (value: Scalar): string | undefined => (typeof value === "string" ? value : undefined);

/** The values of an attribute: texts, booleans and finite numbers, of a list those among its first 100 elements. */
function values(found: unknown): Scalar[] {
  return (Array.isArray(found) ? found.slice(0, 100) : [found]).filter(
    (value) => typeof value === "string" || typeof value === "boolean" || (typeof value === "number" && Number.isFinite(value)),
  );
}

function number(value: Scalar): number | undefined {
  if (typeof value === "boolean" || (typeof value === "string" && !JSON_NUMBER.test(value))) return undefined;
  const found = Number(value);
  return Number.isFinite(found) ? found : undefined;
}

/** What a value is or is written as: a boolean by its word, a number. */
function meaning(value: Scalar): Scalar | undefined {
  const word = fold(String(value));
  return typeof value !== "number" && (word === "true" || word === "false") ? word : number(value);
}

function same(value: Scalar, wanted: Scalar): boolean {
  if (typeof value === "string" && typeof wanted === "string") return value === wanted;
  const meant = meaning(value);
  return meant !== undefined && meant === meaning(wanted);
}

type Version = [...core: string[], label: string | undefined];

function version(value: Scalar): Version | undefined {
  const found = typeof value === "string" && [...value].length <= 256 ? VERSION.exec(value) : null;
  return found ? [found[1] ?? "0", found[2] ?? "0", found[3] ?? "0", found[4]] : undefined;
}

/** Integers of any length, written without leading zeros. */
const integers = (one: string, other: string): number => one.length - other.length || (one < other ? -1 : +(one > other));

/** How two versions are ordered by item 11 of semver.org 2.0.0: less than, equal to or greater than 0. */
function order(one: Version, other: Version): number {
  for (let place = 0; place < 3; place++) {
    const found = integers(one[place]!, other[place]!);
    if (found) return found;
  }
  const [mine, theirs] = [one[3], other[3]];
  if (mine === undefined || theirs === undefined) return +(theirs !== undefined) - +(mine !== undefined);
  const parts = mine.split("."), others = theirs.split(".");
  for (let place = 0; place < Math.min(parts.length, others.length); place++) {
    const part = parts[place]!, counterpart = others[place]!;
    const numeric = /^[0-9]+$/.test(part), theirNumeric = /^[0-9]+$/.test(counterpart);
    const found = numeric && theirNumeric ? integers(part, counterpart)
      : numeric !== theirNumeric ? (numeric ? -1 : 1)
        : part < counterpart ? -1 : +(part > counterpart);
    if (found) return found;
  }
  return parts.length - others.length;
}

/** The pattern in JavaScript's words: `\s` is ASCII. */
function portable(pattern: string): RegExp {
  let inside = false;
  return new RegExp(
    pattern.replace(/\\.|\[|\]/gs, (part) => {
      inside = part === "[" || (inside && part !== "]");
      if (part === "\\s") return inside ? BLANKS : `[${BLANKS}]`;
      if (part === "\\S") return inside ? "\\x00-\\x08\\x0e-\\x1f!-\\uffff" : `[^${BLANKS}]`;
      return part;
    }),
  );
}

const patterns = new Map<unknown, RegExp>();
function compiled(pattern: unknown): RegExp {
  let found = patterns.get(pattern);
  if (!found) patterns.set(pattern, (found = portable(String(pattern))));
  return found;
}

type Operator = (values: Scalar[], wanted: any) => boolean;
const some = <T>(read: (value: Scalar) => T | undefined, relation: (value: T, wanted: T) => boolean): Operator =>
  (found, wanted) => found.some((value) => {
    const [one, other] = [read(value), read(wanted)];
    return one !== undefined && other !== undefined && relation(one, other);
  });
const among: Operator = (found, wanted: Scalar[]) => found.some((value) => wanted.some((one) => same(value, one)));
const released = (relation: (order: number) => boolean): Operator => some(version, (one, other) => relation(order(one, other)));

const OPERATORS: Record<string, Operator> = {
  eq: (found, wanted) => among(found, [wanted]),
  ne: (found, wanted) => !among(found, [wanted]),
  in: among,
  not_in: (found, wanted) => !among(found, wanted),
  lt: some(number, (one, other) => one < other),
  lte: some(number, (one, other) => one <= other),
  gt: some(number, (one, other) => one > other),
  gte: some(number, (one, other) => one >= other),
  semver_eq: released((found) => found === 0),
  semver_lt: released((found) => found < 0),
  semver_lte: released((found) => found <= 0),
  semver_gt: released((found) => found > 0),
  semver_gte: released((found) => found >= 0),
  prefix: some(text, (one, other) => one.startsWith(other)),
  suffix: some(text, (one, other) => one.endsWith(other)),
  contains: some(text, (one, other) => one.includes(other)),
  regex: (found, wanted) => found.slice(0, 10).some(
    (value) => typeof value === "string" && SEARCHED.test(value) && compiled(wanted).test(value),
  ),
  exists: (found, wanted) => found.length > 0 === wanted,
};

/** Whether a rule holds for a context; `{}` holds for every one. */
export function matches(rule: Rule, context: Context): boolean {
  const known = (name: string): Scalar[] => values(Object.hasOwn(context, name) ? context[name] : undefined);
  return Object.entries(rule).every(([key, wanted]: [string, any]) => {
    if (key === "all") return wanted.every((each: Rule) => matches(each, context));
    if (key === "any") return wanted.some((each: Rule) => matches(each, context));
    if (key === "not") return !matches(wanted, context);
    if (key === "countries") {
      const countries = wanted.map(fold);
      return known("country").some((value) => typeof value === "string" && countries.includes(fold(value)));
    }
    if (key === "min_version") return OPERATORS.semver_gte!(known("app_version"), wanted);
    return key !== "attribute" || OPERATORS[String(rule.operator)]!(known(wanted), rule.value);
  });
}
