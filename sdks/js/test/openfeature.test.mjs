/** The published OpenFeature providers against a real server: every type, reason and error. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { OFREPProvider } from "@openfeature/ofrep-provider";
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";
import { OpenFeature } from "@openfeature/server-sdk";
import { OpenFeature as WebOpenFeature } from "@openfeature/web-sdk";

const { UPSHOT_URL: url, UPSHOT_KEY: key, UPSHOT_ADMIN: admin } = process.env;
const name = `of-${Date.now()}`;

async function api(path, body, method = "POST") {
  const headers = { authorization: `Bearer ${admin}`, "content-type": "application/json" };
  const response = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
  assert.ok(response.ok, `${path}: ${response.status} ${await response.clone().text()}`);
  return response.json();
}

const options = { baseUrl: url, headers: [["Authorization", `Bearer ${key}`]] };

describe("providers", { skip: !url && "UPSHOT_URL is not set" }, () => {
  before(async () => {
    await api("/experiments", { name, key: name, variants: [{ name: "control" }, { name: "blue" }], overrides: [{ variant: "blue", users: ["tester"] }] });
    await api("/flags", { key: `${name}-driven`, type: "boolean", default: false, experiment: { key: name, values: { blue: true } } });
    for (const [type, value] of Object.entries({ boolean: true, string: "x", integer: 7, number: 2.5, object: { a: [1] } })) {
      await api("/flags", { key: `${name}-${type}`, type, default: value });
    }
    await api("/flags", { key: `${name}-off`, type: "boolean", default: true, enabled: false });
    await api("/flags", { key: `${name}-all`, type: "boolean", default: false, rollout: { value: true } });
    await api("/flags", { key: `${name}-ruled`, type: "boolean", default: false, rollout: { value: true, targeting: { countries: ["DE"] } } });
  });
  after(() => Promise.all([OpenFeature.close(), WebOpenFeature.close()]));

  test("the server's provider has every type, reason and error", async () => {
    await OpenFeature.setProviderAndWait(new OFREPProvider(options));
    const flags = OpenFeature.getClient();
    const user = { targetingKey: "somebody", country: "US" };

    assert.equal(await flags.getBooleanValue(`${name}-boolean`, false, user), true);
    assert.equal(await flags.getStringValue(`${name}-string`, "", user), "x");
    assert.equal(await flags.getNumberValue(`${name}-integer`, 0, user), 7);
    assert.equal(await flags.getNumberValue(`${name}-number`, 0, user), 2.5);
    assert.deepEqual(await flags.getObjectValue(`${name}-object`, {}, user), { a: [1] });
    const reasons = {};
    for (const [flag, context] of [["driven", user], ["driven", { targetingKey: "tester" }], ["off", user], ["all", user], ["ruled", { ...user, country: "DE" }], ["ruled", user]]) {
      const { reason, errorCode } = await flags.getBooleanDetails(`${name}-${flag}`, false, context);
      assert.equal(errorCode, undefined);
      (reasons[flag] ??= []).push(reason);
    }
    assert.deepEqual(reasons, { driven: ["SPLIT", "TARGETING_MATCH"], off: ["DISABLED"], all: ["STATIC"], ruled: ["TARGETING_MATCH", "DEFAULT"] });
    assert.equal((await flags.getBooleanDetails("none", true, user)).errorCode, "FLAG_NOT_FOUND");
    assert.equal((await flags.getBooleanDetails(`${name}-string`, true, user)).errorCode, "TYPE_MISMATCH");
    assert.equal((await flags.getBooleanDetails(`${name}-all`, true, {})).errorCode, "TARGETING_KEY_MISSING");
    assert.equal((await flags.getBooleanDetails(`${name}-all`, true, { targetingKey: "null" })).errorCode, "INVALID_CONTEXT");
  });

  test("a provider without a good key says so and gives the default", async () => {
    await OpenFeature.setProviderAndWait("stranger", new OFREPProvider({ ...options, headers: [["Authorization", "Bearer no"]] }));
    const details = await OpenFeature.getClient("stranger").getBooleanDetails(`${name}-all`, false, { targetingKey: "u" });

    assert.equal(details.value, false);
    assert.ok(details.errorCode);
  });

  test("the browser's provider has all flags, and other ones for another context", async () => {
    await WebOpenFeature.setContext({ targetingKey: "somebody", country: "US" });
    await WebOpenFeature.setProviderAndWait(new OFREPWebProvider({ ...options, pollInterval: 500, cacheMode: "disabled" }));
    const flags = WebOpenFeature.getClient();
    const found = () => [
      flags.getBooleanValue(`${name}-ruled`, false), flags.getStringValue(`${name}-string`, ""), flags.getNumberValue(`${name}-integer`, 0),
      flags.getBooleanDetails(`${name}-driven`, false).reason, flags.getBooleanDetails("none", false).errorCode,
    ];

    assert.deepEqual(found(), [false, "x", 7, "SPLIT", "FLAG_NOT_FOUND"]);
    await WebOpenFeature.setContext({ targetingKey: "somebody", country: "DE" });
    assert.equal(flags.getBooleanValue(`${name}-ruled`, false), true);
    await api(`/flags/${name}-ruled`, { enabled: false }, "PATCH");
    for (let tries = 0; flags.getBooleanValue(`${name}-ruled`, false) && tries < 300; tries++) await sleep(100);
    assert.equal(flags.getBooleanDetails(`${name}-ruled`, true).reason, "DISABLED");
  });
});
