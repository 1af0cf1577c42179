import { expect, test } from "vitest";
import { inferenceReport } from "../../../test/builders/fleet.ts";
import type { InferenceReport, UpdateState } from "../../api/device-contract.ts";
import { digestOf } from "../../base/digest.ts";
import { instant } from "../../base/time.ts";
import { modelOf, syncOf } from "./model.ts";
import type { Placement } from "./placement.ts";

const AT = instant(0);
const stable = inferenceReport(AT);
const placement: Placement = {
  deployment: "resnet50",
  module: "inference",
  track: "Candidate",
  release: "resnet50-2.1.0",
  digests: [digestOf("2.1.0"), digestOf("2.1.0-fp16")],
};
const back: Placement = {
  ...placement,
  track: "Stable",
  release: "resnet50-2.0.0",
  digests: [digestOf("2.0.0")],
};

function updating(state: UpdateState, error?: { code: string; message: string }): InferenceReport {
  const update = {
    release: "plant-a.resnet50-2.1.0",
    digest: digestOf("2.1.0"),
    state,
    at: "2026-01-01T00:00:00Z",
  };
  return { ...stable, update: { ...update, ...(error === undefined ? {} : { error }) } };
}
const updated = inferenceReport(AT, {
  active: { ...stable.active!, release: "plant-a.resnet50-2.1.0", digest: digestOf("2.1.0") },
});

test.each([
  ["running what is wanted is in sync", updated, placement, "True", "InSync"],
  [
    "running any variant's bytes is in sync",
    updated,
    { ...placement, digests: placement.digests.toReversed() },
    "True",
    "InSync",
  ],
  ["running something else is updating", stable, placement, "False", "Updating"],
  ["loading what is wanted is updating", updating("Loading"), placement, "False", "Updating"],
  [
    "having failed to take what is wanted is a failure",
    updating("Failed"),
    placement,
    "False",
    "UpdateFailed",
  ],
  ["a failure nobody wants any more is none", updating("Failed"), back, "True", "InSync"],
  ["no report is unknown", null, placement, "Unknown", "NeverSeen"],
  [
    "an alive device without a model is updating",
    { contract: 1, heartbeatAt: "" },
    placement,
    "False",
    "Updating",
  ],
  [
    "a deployment without a release asks for nothing",
    stable,
    { ...placement, release: null },
    "True",
    "NothingPlaced",
  ],
  ["without digests the name decides", updated, { ...placement, digests: [] }, "True", "InSync"],
  [
    "and another name is another release",
    updated,
    { ...placement, digests: [], release: "1.0" },
    "False",
    "Updating",
  ],
])("%s", (_, report, wanted, status, reason) => {
  expect(syncOf(report, wanted, "plant-a")).toMatchObject({ status, reason });
});

test("a failure is reported in the device's words, without the secrets in them", () => {
  const error = { code: "Download", message: "GET https://store.example/m.onnx?sig=c2VjcmV0 gave 403" };
  const { message } = syncOf(updating("Failed", error), placement, "plant-a");
  expect(message).toContain("Download: GET https://store.example/m.onnx?");
  expect(message).toContain("it runs resnet50-2.0.0");
  expect(message).not.toContain("c2VjcmV0");
});

test.each([
  ["a model that runs", stable, back, "Running"],
  ["an update in flight", updating("Downloading"), placement, "Downloading"],
  ["an update that failed", updating("Failed"), placement, "Failed"],
  ["a failure that is of no interest any more", updating("Failed"), back, "Running"],
  [
    "an update to the bytes that run",
    { ...updated, update: updating("Running").update! },
    placement,
    "Running",
  ],
  [
    "the first update of all",
    { contract: 1, heartbeatAt: "", update: updating("Checking").update! },
    placement,
    "Checking",
  ],
])("the state of %s", (_, report, wanted, state) => {
  expect(modelOf(report, wanted, "plant-a")?.state).toBe(state);
});

test("releases are called by their names in the device's own namespace", () => {
  expect(modelOf(stable, null, "plant-a")?.release).toBe("resnet50-2.0.0");
  expect(modelOf(stable, null, "plant-b")?.release).toBe("plant-a.resnet50-2.0.0");
  expect(modelOf(null, placement, "plant-a")).toBeNull();
  expect(modelOf({ contract: 1, heartbeatAt: "" }, placement, "plant-a")).toBeNull();
});
