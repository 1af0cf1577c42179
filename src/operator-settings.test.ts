import { expect, test } from "vitest";
import { identityEnvironment, parseOperatorSettings } from "./operator-settings.ts";

const HOST = { name: "node-1", random: "abc" };
const GOOD = {
  EDGEFLEET_HUB_CONNECTION_STRING: "HostName=h;SharedAccessKeyName=n;SharedAccessKey=k",
  EDGEFLEET_STORAGE_CONNECTION_STRING: "AccountName=a;AccountKey=k",
};

test("a flag wins over the environment, which wins over the default", () => {
  const parsed = parseOperatorSettings(
    ["--workers", "3"],
    { ...GOOD, EDGEFLEET_WORKERS: "5", EDGEFLEET_HUB_UNITS: "7" },
    HOST,
  );
  expect(parsed).toMatchObject({
    kind: "settings",
    settings: { workers: 3, hub: { units: 7, tier: "S1" }, lease: { identity: "node-1_abc" } },
  });
});

test("every mistake is reported at once, with its setting", () => {
  const parsed = parseOperatorSettings(
    [
      "--hub-tier",
      "S9",
      "--workers",
      "none",
      "--analysis-interval",
      "soon",
      "--colour=red",
      "extra",
      "--drain",
    ],
    {},
    HOST,
  );
  expect(parsed.kind === "mistakes" && parsed.mistakes).toEqual([
    "--colour is not known",
    "--drain needs a value: VALUE",
    '"extra" is not understood; settings are flags, see --help',
    "no hub: give --hub-host, or EDGEFLEET_HUB_CONNECTION_STRING",
    '--hub-tier: "S9" is none of S1, S2, S3, F1',
    "no blob store: give --storage-url, or EDGEFLEET_STORAGE_CONNECTION_STRING",
    '--workers: "none" is not a whole number from 1 to 64',
    '--analysis-interval: "soon" is not a duration; write it like 90s, 10m or 1h30m',
  ]);
});

test.each([
  ["edge-1.prod", "edge-1.prod"],
  ["", null],
])("the id of the cluster is %j as %j", (written, clusterId) => {
  const parsed = parseOperatorSettings(["--cluster-id", written], GOOD, HOST);
  expect(parsed).toMatchObject({ kind: "settings", settings: { clusterId } });
});

test.each(["a b", "-a", "a'b", "a".repeat(64)])("%j is not a valid id of a cluster", (written) => {
  const parsed = parseOperatorSettings([`--cluster-id=${written}`], GOOD, HOST);
  expect(parsed.kind === "mistakes" && parsed.mistakes.join()).toContain("--cluster-id:");
});

test.each(["\n", "\r\n", "  "])("whitespace at the end of a Secret's value is ignored: %j", (end) => {
  const hub = GOOD.EDGEFLEET_HUB_CONNECTION_STRING;
  const storage = GOOD.EDGEFLEET_STORAGE_CONNECTION_STRING;
  const environment = {
    EDGEFLEET_HUB_CONNECTION_STRING: `\uFEFF${hub}${end}`,
    EDGEFLEET_STORAGE_CONNECTION_STRING: `${storage}${end}`,
    EDGEFLEET_HUB_TIER: `S2${end}`,
    KUBECONFIG: `/etc/kubeconfig${end}`,
  };
  expect(parseOperatorSettings([], environment, HOST)).toMatchObject({
    kind: "settings",
    settings: {
      kubeconfig: "/etc/kubeconfig",
      hub: { tier: "S2", access: { connectionString: hub } },
      store: { access: { connectionString: storage } },
    },
  });
});

test.each(["\n", "\r\n", "  "])("nor is it of what the vendor's identity client reads: %j", (end) => {
  const env = {
    AZURE_CLIENT_ID: `client${end}`,
    AZURE_TENANT_ID: "tenant",
    HOME: `/home${end}`,
    AZURE_EMPTY: undefined,
  };
  expect(identityEnvironment({ ...env, AZURE_FEDERATED_TOKEN_FILE: `\uFEFF/token${end}` })).toEqual({
    AZURE_CLIENT_ID: "client",
    AZURE_FEDERATED_TOKEN_FILE: "/token",
  });
});

test("a mistake in a connection string never shows the string", () => {
  const parsed = parseOperatorSettings(
    [],
    { ...GOOD, EDGEFLEET_HUB_CONNECTION_STRING: "HostName=h;SharedAccessKey=secret1" },
    HOST,
  );
  expect(parsed).toEqual({
    kind: "mistakes",
    mistakes: ["EDGEFLEET_HUB_CONNECTION_STRING: has no SharedAccessKeyName"],
  });
});

test("the help names every setting and both secrets", () => {
  const parsed = parseOperatorSettings(["--help"], {}, HOST);
  expect(parsed.kind).toBe("help");
  if (parsed.kind !== "help") return;
  for (const name of ["--hub-host", "--verifier-socket", "--salt", "EDGEFLEET_HUB_CONNECTION_STRING"])
    expect(parsed.text).toContain(name);
});

test.each([
  [[], "annotated"],
  [["--namespaces", "plant-a"], "open"],
  [["--namespaces", "plant-a,plant-a"], "open"],
  [["--namespaces", "plant-a,plant-b"], "annotated"],
  [["--namespaces", "plant-a,plant-b", "--tenancy", "open"], "open"],
  [["--namespaces", "plant-a", "--tenancy", "annotated"], "annotated"],
  [["--tenancy", "open"], "open"],
])("with %j tenancy is %s", (args, tenancy) => {
  expect(parseOperatorSettings(args, GOOD, HOST)).toMatchObject({ kind: "settings", settings: { tenancy } });
});

test("another kind of tenancy is a mistake, and the brake on deletions may be 0", () => {
  const wrong = parseOperatorSettings(["--tenancy", "closed", "--deletions-per-minute", "-1"], GOOD, HOST);
  expect(wrong.kind === "mistakes" && wrong.mistakes).toEqual([
    '--tenancy: "closed" is none of open, annotated',
    '--deletions-per-minute: "-1" is not a whole number from 1 to 100000',
  ]);
  expect(parseOperatorSettings([], GOOD, HOST)).toMatchObject({ settings: { deletionsPerMinute: 20 } });
  expect(parseOperatorSettings(["--deletions-per-minute", "0"], GOOD, HOST)).toMatchObject({
    settings: { deletionsPerMinute: 0 },
  });
});

test("addresses are read in IPv4 and IPv6, and all addresses of the machine are the default", () => {
  const probes = (...flags: readonly string[]) => {
    const parsed = parseOperatorSettings(flags, GOOD, HOST);
    return parsed.kind === "settings" ? parsed.settings.probes : parsed;
  };
  expect(probes()).toEqual({ host: "", port: 8080 });
  expect(probes("--probe-address", "[::]:8080")).toEqual({ host: "::", port: 8080 });
  expect(probes("--probe-address", "127.0.0.1:0")).toEqual({ host: "127.0.0.1", port: 0 });
  expect(probes("--probe-address", "8080")).toEqual({
    kind: "mistakes",
    mistakes: ['--probe-address: "8080" is not host:port; write it like 127.0.0.1:8080, [::1]:8080 or :8080'],
  });
  expect(probes("--hub-endpoint", ":443")).toEqual({
    kind: "mistakes",
    mistakes: ['--hub-endpoint: ":443" names no host to dial'],
  });
});

test("configurations without a deployment remain for a day, or for as long as the flag says", () => {
  expect(parseOperatorSettings([], GOOD, HOST)).toMatchObject({ settings: { ownerlessAfter: 86_400_000 } });
  expect(parseOperatorSettings(["--ownerless-after", "30m"], GOOD, HOST)).toMatchObject({
    settings: { ownerlessAfter: 1_800_000 },
  });
});
