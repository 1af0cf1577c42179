import { X509Certificate } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import { type Authority, deviceCertificate, newAuthority } from "../testing/device-certificates.ts";
import { commonNamesOf, leadsTo, parseAuthorities } from "./device-certificates.ts";

let root: Authority;
let middle: Authority;
const HOUR = 3_600_000;
const [serverAuth, clientAuth] = ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"] as const;

beforeAll(async () => {
  root = await newAuthority("root");
  middle = await newAuthority("middle", { by: root });
});

async function leads(
  authorities: readonly Authority[],
  own: ReturnType<typeof deviceCertificate>,
  ...sent: readonly Authority[]
): Promise<boolean> {
  const chain = [(await own).cert, ...sent.map(({ pem }) => pem)];
  return leadsTo(
    authorities.map(({ pem }) => new X509Certificate(pem)),
    chain.map((pem) => new X509Certificate(pem)),
    Date.now(),
  );
}

test("a chain leads to the authority that signed it, through those that were sent along", async () => {
  expect(await leads([root], deviceCertificate("cam-1", { by: root }))).toBe(true);
  expect(await leads([root], deviceCertificate("cam-1", { by: middle }), middle)).toBe(true);
  expect(await leads([root], deviceCertificate("cam-1", { by: middle }), middle, root)).toBe(true);
  expect(await leads([middle], deviceCertificate("cam-1", { by: middle }))).toBe(true);
  expect(await leads([root], deviceCertificate("cam-1", { by: middle }))).toBe(false);
  expect(await leads([], deviceCertificate("cam-1", { by: root }), root)).toBe(false);
});

test("an authority of the same name is another authority", async () => {
  const [impostor, other] = await Promise.all([newAuthority("root"), newAuthority("middle")]);
  expect(await leads([root], deviceCertificate("cam-1", { by: impostor }), impostor)).toBe(false);
  expect(await leads([root], deviceCertificate("cam-1", { by: other }), middle)).toBe(false);
});

test("a device signs nothing", async () => {
  const device = await deviceCertificate("cam-1", { by: root });
  const posing = { pem: device.cert, name: "CN=cam-1", keys: device.keys };
  const signed = await deviceCertificate("cam-2", { by: posing });
  const chain = [signed, device].map(({ cert }) => new X509Certificate(cert));
  expect(leadsTo([new X509Certificate(root.pem)], chain, Date.now())).toBe(false);
  expect(await leads([], deviceCertificate("cam-1"))).toBe(false);
});

test("everything on the way is valid now", async () => {
  const past = { from: -2 * HOUR, to: -HOUR };
  const future = { from: HOUR, to: 2 * HOUR };
  const [oldRoot, oldMiddle] = await Promise.all([
    newAuthority("old root", past),
    newAuthority("old middle", { by: root, ...past }),
  ]);
  for (const when of [past, future])
    expect(await leads([root], deviceCertificate("cam-1", { by: root, ...when }))).toBe(false);
  expect(await leads([oldRoot], deviceCertificate("cam-1", { by: oldRoot }))).toBe(false);
  expect(await leads([root], deviceCertificate("cam-1", { by: oldMiddle }), oldMiddle)).toBe(false);
});

test("an authority may say how many stand below it", async () => {
  const [only, two] = await Promise.all([
    newAuthority("only", { pathLength: 0 }),
    newAuthority("two", { pathLength: 1 }),
  ]);
  const below = await newAuthority("below", { by: only });
  const belowTwo = await newAuthority("below two", { by: two });
  expect(await leads([only], deviceCertificate("cam-1", { by: only }))).toBe(true);
  expect(await leads([only], deviceCertificate("cam-1", { by: below }), below)).toBe(false);
  expect(await leads([two], deviceCertificate("cam-1", { by: belowTwo }), belowTwo)).toBe(true);
});

test("a certificate that says what it is for must be for clients", async () => {
  for (const [purposes, good] of [
    [[clientAuth], true],
    [[serverAuth, clientAuth], true],
    [[serverAuth], false],
  ] as const)
    expect(await leads([root], deviceCertificate("cam-1", { by: root, purposes }))).toBe(good);
});

test("the names of a holder are read as they are, not as text that holds them", async () => {
  const named = async (subject: string) =>
    commonNamesOf(new X509Certificate((await deviceCertificate(subject)).cert));
  expect(await named("cam-1")).toEqual(["cam-1"]);
  expect(await named("cam-1, O=plant")).toEqual(["cam-1"]);
  expect(await named("other, O=CN\\=cam-1")).toEqual(["other"]);
  expect(await named("a, CN=b")).toEqual(["a", "b"]);
});

test("a bundle of authorities is read whole, and every mistake in it is reported", async () => {
  const now = Date.now();
  const both = parseAuthorities([`${root.pem}\n${middle.pem}`, root.pem], now);
  expect(both.ok && both.authorities.map(({ subject }) => subject)).toEqual(["CN=root", "CN=middle"]);
  const device = await deviceCertificate("cam-1", { by: root });
  const old = await newAuthority("old", { from: -2 * HOUR, to: -HOUR });
  const broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
  expect(parseAuthorities(["hello", [root.pem, device.cert, old.pem, broken].join("\n")], now)).toEqual({
    ok: false,
    problems: [
      "there is no certificate in PEM form",
      "certificate 2 is not an authority's: it needs the basic constraint CA:TRUE",
      expect.stringMatching(/^certificate 3 is not valid now: only from .+ to .+/),
      "certificate 4 cannot be read",
    ],
  });
  const many = await Promise.all(Array.from({ length: 26 }, (_, index) => newAuthority(`a-${index}`)));
  expect(parseAuthorities([many.map(({ pem }) => pem).join("\n")], now)).toEqual({
    ok: false,
    problems: ["26 certificates of authorities, and a hub takes 25"],
  });
});
