import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { BlobServiceClient } from "@azure/storage-blob";
import { afterAll, beforeAll, expect, test } from "vitest";
import { digestOf } from "../../src/base/digest.ts";
import { eventually } from "../../tools/local-stack.ts";
import { type Fleet, type LiveRelease, releaseObject, startFleet } from "./fleet.ts";

// What a model owner sees of verdicts: they explain themselves, are reached again when asked, and their reports stay.

const FILES = join(import.meta.dirname, "../../examples/models/files");
let fleet: Fleet;

beforeAll(async () => {
  fleet = await startFleet("verification");
  await fleet.startOperator("operator", ["--leader-election", "false"]);
});
afterAll(() => fleet.stop());

const golden = async () => ({
  blob: { container: "models", path: "digits/golden.npz" },
  digest: digestOf(await readFile(join(FILES, "digits/golden.npz"))),
  minimumAccuracy: "0.9",
});

type Condition = { readonly type: string; readonly status: string; readonly reason: string };
const conditionOf = (release: LiveRelease, type: string): Condition | undefined =>
  release.status?.conditions?.find((condition) => condition.type === type);

async function until(
  name: string,
  what: string,
  holds: (release: LiveRelease) => boolean,
): Promise<LiveRelease> {
  let last: LiveRelease | null = null;
  try {
    return await eventually(
      `${name} ${what}`,
      async () => {
        last = await fleet.release(name);
        return holds(last) && last;
      },
      { within: 90_000, every: 200 },
    );
  } catch (error) {
    throw new Error(`${String(error)}; last seen: ${JSON.stringify(last)}`);
  }
}

const stored = (release: LiveRelease) => release.status?.variants?.[0]?.report !== undefined;

async function blobText(path: string): Promise<{ readonly text: string; readonly type: string | undefined }> {
  const service = BlobServiceClient.fromConnectionString(fleet.stack.azurite.connectionString);
  const client = service.getContainerClient("models").getBlobClient(path);
  const { contentType } = await client.getProperties();
  return { text: (await client.downloadToBuffer()).toString(), type: contentType };
}

test("a verdict names its report, and the report lies beside the model", async () => {
  await fleet.apply(
    await releaseObject("digits-1.0.0", {
      verification: { golden: await golden(), determinism: {}, memory: { maximum: "1Gi" } },
    }),
  );
  const release = await until("digits-1.0.0", "has a report", stored);
  expect(conditionOf(release, "Ready")).toMatchObject({ status: "True", reason: "VerificationPassed" });
  const { path = "", page = "" } = release.status?.variants?.[0]?.report ?? {};
  const json = await blobText(path);
  expect(json.type).toBe("application/json");
  expect(JSON.parse(json.text)).toMatchObject({
    format: "edgefleet.dev/verification-report/v1",
    verdict: "Passed",
    model: { digest: release.status?.variants?.[0]?.digest },
  });
  const html = await blobText(page);
  expect(html.type).toBe("text/html; charset=utf-8");
  expect(html.text).toContain("digits 1.0.0");
  expect(html.text).toContain("Determinism");
});

test("the next release is compared with it, and the verdict says with which", async () => {
  await fleet.apply(
    await releaseObject("digits-2.0.0", {
      file: "digits/2.0.0/model.onnx",
      verification: { golden: await golden(), parity: { reference: "previous", minimumAgreement: "0.8" } },
    }),
  );
  const release = await until(
    "digits-2.0.0",
    "is Ready",
    (one) => conditionOf(one, "Ready")?.status === "True",
  );
  const [variant] = release.status?.variants ?? [];
  expect(variant?.comparedWith?.parity).toMatchObject({ release: "digits-1.0.0", variant: "fp32" });
  const parity = variant?.checks?.find(({ name }) => name === "Parity");
  expect(parity).toMatchObject({ outcome: "Passed", bound: expect.stringContaining("0.8") });
  expect(parity?.method).toContain("digits-1.0.0 (fp32)");
});

test("a person asks for another verification: Ready stays True, and there is another report", async () => {
  const before = await until("digits-1.0.0", "has a report", stored);
  const [old] = before.status?.variants ?? [];
  const unready: string[] = [];
  await fleet.kubectl("annotate", "mrel", "digits-1.0.0", "edgefleet.dev/reverify=monday");
  const after = await until("digits-1.0.0", "is verified again", (release) => {
    const ready = conditionOf(release, "Ready");
    if (ready?.status !== "True") unready.push(JSON.stringify(ready));
    const [variant] = release.status?.variants ?? [];
    return (
      variant?.verifiedAt !== old?.verifiedAt &&
      stored(release) &&
      variant?.report?.path !== old?.report?.path
    );
  });
  expect(unready).toEqual([]);
  expect(after.status?.handledRequests).toEqual({ reverify: "monday" });
  expect(conditionOf(after, "Reverifying")).toBeUndefined();
  expect(JSON.parse((await blobText(after.status?.variants?.[0]?.report?.path ?? "")).text)).toMatchObject({
    verdict: "Passed",
  });
  expect((await blobText(old?.report?.path ?? "")).text).toContain("Passed");
  // Nothing more is written once all is said.
  const { resourceVersion } = (await fleet.release("digits-1.0.0")).metadata;
  await sleep(3000);
  expect((await fleet.release("digits-1.0.0")).metadata.resourceVersion).toBe(resourceVersion);
});

test("kubectl describe reads as a report, and its events name check, figure and bound", async () => {
  await fleet.apply(
    await releaseObject("digits-strict", {
      verification: { golden: { ...(await golden()), minimumAccuracy: "1" } },
    }),
  );
  await until("digits-strict", "failed", (release) => conditionOf(release, "Ready")?.status === "False");
  const described = await eventually(
    "the event is there",
    async () => {
      const text = await fleet.kubectl("describe", "mrel", "digits-strict");
      return text.includes("Warning") && text;
    },
    { within: 30_000, every: 500 },
  );
  for (const words of [
    /AccuracyTooLow/,
    /Measured:\s+accuracy 0\.9/,
    /Bound:\s+accuracy ≥ 1/,
    /Warning\s+VerificationFailed/,
  ])
    expect(described).toMatch(words);
  expect(described).toMatch(/fp32: Golden measured accuracy 0\.9\S* \(\d+ of \d+\), bound accuracy ≥ 1/);
});

test("what is compared with a release that is not there goes on as soon as it comes", async () => {
  const verification = {
    golden: await golden(),
    parity: { reference: "digits-late", minimumAgreement: "0.8" },
  };
  await fleet.apply(await releaseObject("digits-early", { verification }));
  await until(
    "digits-early",
    "waits",
    (release) => conditionOf(release, "Verified")?.reason === "ReferenceMissing",
  );
  await fleet.apply(await releaseObject("digits-late", { file: "digits/2.0.0/model.onnx" }));
  await until("digits-early", "is Ready", (release) => conditionOf(release, "Ready")?.status === "True");
});

test("a release that is deleted while it is verified keeps nobody waiting", async () => {
  const long = { throughput: { minimumPerSecond: 1, duration: "3m" } };
  await fleet.apply(await releaseObject("digits-long", { verification: long }));
  await until("digits-long", "is measured", ({ status }) =>
    (status?.variants?.[0]?.message ?? "").includes("Throughput"),
  );
  await fleet.kubectl("delete", "mrel", "digits-long");
  await fleet.apply(await releaseObject("digits-next"));
  await until("digits-next", "is Ready", (release) => conditionOf(release, "Ready")?.status === "True");
});
