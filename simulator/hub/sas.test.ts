import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import { authorize, defaultPolicies, type Policy } from "./sas.ts";

const NOW = Date.parse("2026-03-01T12:00:00Z");
const HUB = { hostName: "simhub.azure-devices.net", policies: defaultPolicies(1) };

function policyNamed(name: string): Policy {
  const policy = HUB.policies.find((one) => one.name === name);
  if (policy === undefined) throw new Error(`no policy ${name}`);
  return policy;
}

function tokenFor(
  scope: string,
  expiry: number,
  policy = policyNamed("iothubowner"),
  signed = scope,
): string {
  const signature = createHmac("sha256", Buffer.from(policy.key, "base64"))
    .update(`${signed}\n${expiry}`)
    .digest("base64");
  return `SharedAccessSignature sr=${scope}&sig=${encodeURIComponent(signature)}&skn=${policy.name}&se=${expiry}`;
}

const LATER = NOW / 1000 + 60;

test.each([
  ["a raw scope", tokenFor(HUB.hostName, LATER)],
  ["a scope in capitals", tokenFor(HUB.hostName.toUpperCase(), LATER)],
  ["an encoded scope, signed as it is sent", tokenFor(`${HUB.hostName}%2Fdevices`, LATER)],
  [
    "an encoded scope, signed decoded",
    tokenFor(`${HUB.hostName}%2Fdevices`, LATER, undefined, `${HUB.hostName}/devices`),
  ],
  ["a bearer token that is no JWT", "Bearer opaque"],
])("accepted: %s", (_, header) => {
  expect(authorize(header, "RegistryWrite", HUB, NOW)).toMatchObject({ ok: true });
});

test.each<[string, string | undefined]>([
  ["nothing", undefined],
  ["another scheme", "Basic eDp5"],
  ["an empty bearer token", "Bearer "],
  ["an expired token", tokenFor(HUB.hostName, NOW / 1000 - 1)],
  ["an expiry that is no number", tokenFor(HUB.hostName, Number.NaN)],
  ["another hub's token", tokenFor("other.azure-devices.net", LATER)],
  ["a host that only begins like the hub", tokenFor(`${HUB.hostName}.evil.net`, LATER)],
  [
    "a policy that is not there",
    tokenFor(HUB.hostName, LATER, { ...policyNamed("iothubowner"), name: "root" }),
  ],
  ["another policy's key", tokenFor(HUB.hostName, LATER, { ...policyNamed("service"), name: "iothubowner" })],
  ["a policy without the right", tokenFor(HUB.hostName, LATER, policyNamed("service"))],
])("refused: %s", (_, header) => {
  expect(authorize(header, "RegistryWrite", HUB, NOW)).toMatchObject({ refusal: { status: 401 } });
});

test("a refusal does not repeat the token", () => {
  const refused = authorize(tokenFor("other.azure-devices.net", LATER), "RegistryRead", HUB, NOW);
  expect(JSON.stringify(refused)).not.toMatch(/sig|SharedAccess/);
});
