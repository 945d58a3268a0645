/** The client against a real server: UPSHOT_URL, UPSHOT_KEY (assign, events:write), UPSHOT_ADMIN (everything). */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Upshot } from "../dist/upshot.js";

const { UPSHOT_URL: url, UPSHOT_KEY: key, UPSHOT_ADMIN: admin } = process.env;

async function api(path, body, method = body ? "POST" : "GET") {
  const headers = { authorization: `Bearer ${admin}`, "content-type": "application/json" };
  const response = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.clone().text()}`);
  return response.json();
}

async function eventually(check, seconds = 30) {
  for (const end = Date.now() + seconds * 1000; ; await sleep(50)) {
    if (await check()) return;
    assert.ok(Date.now() < end, "it did not happen in time");
  }
}

const totals = async (experiment) => (await api(`/experiments/${experiment}/results?primary_event_type=buy`)).summary;
const clients = [];
const client = (options) => {
  const made = new Upshot({ url: url ?? "http://upshot", key, ...options });
  clients.push(made);
  return made;
};
after(() => Promise.all(clients.map((each) => each.close())));

describe("with a server", { skip: !url && "UPSHOT_URL is not set" }, () => {
  const name = `js-${Date.now()}`;

  before(async () => {
    await api("/experiments", {
      name, key: name, variants: [{ name: "control" }, { name: "blue", config: { color: "#00f" } }],
      targeting: { countries: ["US"] }, overrides: [{ variant: "blue", users: ["tester"] }],
    });
    await api("/flags", { key: `${name}-flag`, type: "string", default: "grey", experiment: { key: name, values: { control: "grey", blue: "#00f" } } });
  });

  test("it decides as the server does, and what it showed and tracked is counted once", async () => {
    const sdk = client({});
    assert.ok(await sdk.ready());
    const users = Array.from({ length: 40 }, (_, number) => `${name}-${number}`);
    for (const user of users) {
      for (let time = 0; time < 3; time++) sdk.variant(name, user, { country: "us" });
      sdk.track(user, "buy", { price: 2 });
    }
    assert.equal(sdk.variant(name, "elsewhere", { country: "DE" }).reason, "not_targeted");
    assert.equal(sdk.variant(name, "tester").reason, "overridden");
    assert.equal(sdk.variant("none", "somebody").reason, "unknown_experiment");
    const decided = users.map((user) => sdk.variant(name, user, { country: "US" }).variant.id);
    await sdk.flush();

    assert.deepEqual(sdk.stats, { queued: 0, sent: 80, dropped: 0 });
    const { total_users, total_events } = await totals(name);
    assert.deepEqual([total_users, total_events], [40, 40]);
    for (const [place, user] of users.entries()) {
      const served = await api(`/experiments/${name}/assignment/${user}?country=US`);
      assert.equal(served.variant_id, decided[place]);
      assert.equal(served.is_new, false);
    }
  });

  test("flags have the value of their variant, and the default of the call where there is none", async () => {
    const sdk = client({});
    await sdk.ready();
    const values = new Set(Array.from({ length: 20 }, (_, number) => sdk.flag(`${name}-flag`, `f${number}`, "x", { country: "US" }, false)));

    assert.deepEqual(values, new Set(["grey", "#00f"]));
    assert.equal(sdk.flag("none", "u", 7), 7);
    assert.equal(sdk.flag(`${name}-flag`, "u", true), true, "of another type");
    assert.equal(sdk.flagDetails(`${name}-flag`, "tester").reason, "TARGETING_MATCH");
  });

  test("a change is seen soon by who listens", async () => {
    let changes = 0;
    const sdk = client({ stream: true, pollSeconds: 0 });
    await sdk.ready();
    sdk.onChange(() => changes++);
    await sleep(500);
    await api("/flags", { key: `${name}-new`, type: "boolean", default: true });

    await eventually(() => sdk.flag(`${name}-new`, "u", false) === true);
    assert.ok(changes >= 1);
  });

  test("a store keeps variants when shares change; without one they follow the hash", async () => {
    const key = `${name}-shares`;
    await api("/experiments", { name: key, key, variants: [{ name: "control", weight: 9 }, { name: "blue", weight: 1 }] });
    const kept = new Map();
    const store = { get: (...of) => kept.get(of.join()), set: (experiment, user, variant) => kept.set(`${experiment},${user}`, variant) };
    const [sticky, loose] = [client({ store }), client({})];
    await Promise.all([sticky.ready(), loose.ready()]);
    const users = Array.from({ length: 60 }, (_, number) => `s${number}`);
    const of = (sdk) => users.map((user) => sdk.variant(key, user, {}, false).variant.name).join();
    const before = [of(sticky), of(loose)];
    await api(`/experiments/${key}`, { variants: [{ name: "control", weight: 1 }, { name: "blue", weight: 9 }] }, "PATCH");
    await eventually(async () => (await Promise.all([sticky.refresh(), loose.refresh()])) && of(loose) !== before[1]);

    assert.equal(of(sticky), before[0]);
  });
});

/** A stand-in for a network: what `answer` says, or an error. */
function network(answer) {
  const asked = [];
  globalThis.fetch = async (address, init = {}) => {
    asked.push({ path: new URL(address).pathname, headers: init.headers, body: init.body && JSON.parse(init.body) });
    const found = await answer(asked.at(-1));
    if (!found) throw new TypeError("fetch failed");
    return new Response(found.body ? JSON.stringify(found.body) : null, { status: found.status ?? 200, headers: found.headers ?? {} });
  };
  return asked;
}

describe("without a server", () => {
  const real = globalThis.fetch;
  after(() => (globalThis.fetch = real));
  const document = {
    format: 1, flags: [],
    experiments: [{
      id: "i", key: "e", status: "running", phase: 1, salt: "s", traffic: 1_000_000, targeting: {}, layers: [], holdouts: [],
      overrides: [], winner: null,
      variants: ["a", "b"].map((name, place) => ({ id: name, name, is_control: !place, weight: 1, config: null })),
    }],
  };

  test("it decides by the snapshot it was given, and by none without one", async () => {
    network(() => undefined);
    const errors = [];
    const [given, bare] = [client({ snapshot: document, onError: (error) => errors.push(error) }), client({})];

    assert.ok(await given.ready());
    assert.equal(await bare.ready(), false);
    assert.equal(given.variant("e", "u").reason, "assigned");
    assert.deepEqual(bare.variant("e", "u"), { variant: null, reason: "no_configuration" });
    assert.equal(errors.length, 1);
  });

  test("what could not be sent is sent again, with the same ids, and nothing that was taken", async () => {
    let away = 2;
    const asked = network(({ path }) => (path === "/events" && away-- > 0 ? (away ? undefined : { status: 503 }) : { body: document }));
    const sdk = client({ snapshot: document });
    sdk.track("u", "buy");
    sdk.track("v", "buy");
    await eventually(async () => {
      await sdk.flush();
      return sdk.stats.sent === 2;
    });

    const sent = asked.filter(({ path }) => path === "/events").map(({ body }) => body.events.map(({ event_id }) => event_id).join());
    assert.equal(sent.length, 3);
    assert.equal(new Set(sent).size, 1);
  });

  test("what the server refuses is dropped and counted, and what does not find room", async () => {
    network(({ path }) => (path === "/events" ? { status: 422, body: {} } : { body: document }));
    const sdk = client({ snapshot: document, waiting: 3 });
    for (let time = 0; time < 5; time++) sdk.track("u", "buy");
    assert.equal(sdk.stats.dropped, 2);
    await sdk.flush();
    await eventually(() => sdk.stats.queued === 0);

    assert.deepEqual(sdk.stats, { queued: 0, sent: 0, dropped: 5 });
  });

  test("a configuration that cannot be read never replaces a good one", async () => {
    network(() => ({ body: { format: 2 } }));
    const sdk = client({ snapshot: document });
    await sdk.refresh();

    assert.equal(sdk.variant("e", "u").reason, "assigned");
  });

  test("a page that goes away hands over what waits, with the key in the body", async () => {
    network(() => ({ body: document }));
    const beacons = [];
    let hide;
    globalThis.document = { visibilityState: "hidden", addEventListener: (_, listener) => (hide = listener), removeEventListener: () => {} };
    Object.defineProperty(globalThis, "navigator", { configurable: true, value: { sendBeacon: (to, text) => beacons.push([to, JSON.parse(text)]) } });
    const sdk = new Upshot({ url: "http://upshot", key: "upk_x", snapshot: document });
    sdk.variant("e", "u");
    sdk.track("u", "buy");
    hide();
    await sdk.close();
    delete globalThis.document;

    assert.equal(beacons.length, 1);
    const [[to, { key, events, exposures }]] = beacons;
    assert.deepEqual([to, key, events.length, exposures.length], ["http://upshot/beacon", "upk_x", 1, 1]);
    assert.equal(sdk.stats.sent, 2);
  });
});
