import { expect, test } from "vitest";
import { parseConfig } from "./config.ts";

const HOST = { name: "node-1", random: "abc" };
const GOOD = {
  EDGEFLEET_HUB_CONNECTION_STRING: "HostName=h;SharedAccessKeyName=n;SharedAccessKey=k",
  EDGEFLEET_STORAGE_CONNECTION_STRING: "AccountName=a;AccountKey=k",
};

test("a flag wins over the environment, which wins over the default", () => {
  const parsed = parseConfig(
    ["--workers", "3"],
    { ...GOOD, EDGEFLEET_WORKERS: "5", EDGEFLEET_HUB_UNITS: "7" },
    HOST,
  );
  expect(parsed).toMatchObject({
    kind: "config",
    config: { workers: 3, hub: { units: 7, tier: "S1" }, lease: { identity: "node-1_abc" } },
  });
});

test("every mistake is reported at once, and says which setting it is about", () => {
  const parsed = parseConfig(
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
    "--colour: no such setting, see --help",
    '"extra" is not understood; settings are flags, see --help',
    "--drain: needs a value",
    "no hub: give --hub-host, or EDGEFLEET_HUB_CONNECTION_STRING",
    '--hub-tier: "S9" is none of S1, S2, S3, F1',
    "no blob store: give --storage-url, or EDGEFLEET_STORAGE_CONNECTION_STRING",
    '--workers: "none" is not a whole number from 1 to 64',
    '--analysis-interval: "soon" is not a duration; write it like 90s, 10m or 1h30m',
  ]);
});

test("a mistake in a connection string never shows the string", () => {
  const parsed = parseConfig(
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
  const parsed = parseConfig(["--help"], {}, HOST);
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
  expect(parseConfig(args, GOOD, HOST)).toMatchObject({ kind: "config", config: { tenancy } });
});

test("another kind of tenancy is a mistake, and the brake on deletions may be 0", () => {
  const wrong = parseConfig(["--tenancy", "closed", "--deletions-per-minute", "-1"], GOOD, HOST);
  expect(wrong.kind === "mistakes" && wrong.mistakes).toEqual([
    '--tenancy: "closed" is none of open, annotated',
    '--deletions-per-minute: "-1" is not a whole number from 1 to 100000',
  ]);
  expect(parseConfig([], GOOD, HOST)).toMatchObject({ config: { deletionsPerMinute: 20 } });
  expect(parseConfig(["--deletions-per-minute", "0"], GOOD, HOST)).toMatchObject({
    config: { deletionsPerMinute: 0 },
  });
});

test("a cluster has the id that it is given, and one that a label could not hold is refused", () => {
  const parse = (id: string) => parseConfig(["--cluster-id", id], GOOD, HOST);
  expect(parse("plant-7.west")).toMatchObject({ config: { clusterId: "plant-7.west" } });
  expect(parse("")).toMatchObject({ config: { clusterId: null } });
  for (const id of ["-a", "a b", "a".repeat(64)])
    expect(parse(id)).toEqual({
      kind: "mistakes",
      mistakes: [`--cluster-id: "${id}" is not 1 to 63 letters, digits, dots, hyphens and underscores`],
    });
});
