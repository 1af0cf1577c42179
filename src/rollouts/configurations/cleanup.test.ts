import { expect, test } from "vitest";
import { releaseSpec } from "../../../test/builders/specs.ts";
import { CLUSTER } from "../../../test/fakes/fleet-world.ts";
import { look, NOW, withConfigurations } from "../../../test/stories/seen.ts";
import { later, minutes } from "../../base/time.ts";
import type { Configuration } from "../../hub/hub.ts";
import type { RolloutSeen, StaleDevice, Track } from "../seen.ts";
import type { Action } from "./action.ts";
import { cleanupActions, EVALUATED_AFTER, isCleanedUp, remainsOf } from "./cleanup.ts";
import { BASE_ID, LABEL } from "./content.ts";
import { MATCH_NONE } from "./target.ts";

const OURS = "tags.edgefleet.deployments.inference = 'plant-a.resnet'";

function configuration(id: string, labels: Configuration["labels"], more: Partial<Configuration> = {}) {
  return {
    id,
    kind: "edge",
    labels,
    priority: 1,
    targetCondition: OURS,
    content: {},
    etag: "1",
    ...more,
  } as const;
}

function layer(id: string, release: string, track: Track, targetCondition = OURS): Configuration {
  const { digest } = releaseSpec(release).variants[0]!;
  const model = {
    deployment: "plant-a.resnet",
    release: `plant-a.${release}`,
    digest,
    url: "https://store.invalid/model?sig=x",
  };
  return configuration(
    id,
    {
      [LABEL.cluster]: CLUSTER,
      [LABEL.namespace]: "plant-a",
      [LABEL.name]: "resnet",
      [LABEL.track]: track,
      [LABEL.release]: release,
      [LABEL.variant]: "fp32",
      [LABEL.kind]: "edge",
    },
    { targetCondition, content: { $edgeAgent: {}, inference: { "properties.desired.model": model } } },
  );
}

const base = configuration(BASE_ID, { [LABEL.base]: "true", [LABEL.cluster]: CLUSTER });

function staleDevice(more: Partial<StaleDevice> & { readonly release?: string | null } = {}): StaleDevice {
  const { release = "v1", ...rest } = more;
  const digest = release === null ? "" : releaseSpec(release).variants[0]!.digest;
  const pointer =
    release === null ? null : { deployment: "plant-a.resnet", release: `plant-a.${release}`, digest };
  return {
    device: "cam-9",
    deviceClass: "orin",
    iotEdge: true,
    tagged: false,
    pointer,
    namesCluster: true,
    leaving: false,
    heirs: [],
    ...rest,
  };
}

function deleted(more: Partial<RolloutSeen>, policy: "Retain" | "Remove" = "Retain"): RolloutSeen {
  const seen = look({ members: [], spec: { deletionPolicy: policy } });
  const { digest } = releaseSpec("v1").variants[0]!;
  const status = { phase: "Completed", stable: { release: "v1", digests: [digest] } } as const;
  return withConfigurations(
    { ...seen, deployment: { ...seen.deployment, deleting: true, status }, ...more },
    more.configurations ?? [],
  );
}

function said(action: Action): string {
  switch (action.kind) {
    case "create":
    case "createBase":
      return action.kind;
    case "retarget":
      return `retarget ${action.id} to ${action.condition === MATCH_NONE ? "no device" : action.condition}`;
    case "remove":
      return `remove ${action.id}`;
    case "restore":
      return `restore ${action.device} to ${action.to?.release ?? "nothing"}`;
    case "retain":
      return `retain ${action.device} on ${action.to.release}`;
    default:
      return action satisfies never;
  }
}

const todo = (seen: RolloutSeen) => cleanupActions(seen).map(said);
const both = [base, layer("s1", "v1", "stable"), layer("c2", "v2", "candidate")];

test("a deletion that removes takes what is ours, and the base only with the last deployment", () => {
  const seen = deleted({ configurations: both, staleDevices: [staleDevice({ tagged: true })] }, "Remove");
  expect(todo(seen)).toEqual(["remove c2", "remove s1", "restore cam-9 to nothing", `remove ${BASE_ID}`]);
  expect(remainsOf(seen)).toMatchObject({ configurations: 3, pointers: 1, tags: 1 });
  expect(todo({ ...seen, staleDevices: [], others: 1 })).toEqual(["remove c2", "remove s1"]);
});

test("a base stays while layers of another operator may stand on it", () => {
  for (const cluster of [CLUSTER, "cluster-2"]) {
    const theirs = configuration("ef-theirs", {
      [LABEL.namespace]: "plant-b",
      [LABEL.name]: "yolo",
      [LABEL.cluster]: cluster,
    });
    const seen = deleted({ configurations: [...both, theirs] }, "Remove");
    expect(todo(seen)).toEqual(["remove c2", "remove s1"]);
    expect(remainsOf(seen).configurations).toBe(2);
  }
});

test("nothing of stable is withdrawn while a device is on its way to another deployment", () => {
  for (const policy of ["Retain", "Remove"] as const) {
    const waiting = [staleDevice({ heirs: ["other"] }), staleDevice({ device: "cam-8", tagged: true })];
    const seen = deleted({ configurations: both, staleDevices: waiting }, policy);
    expect(todo(seen)).toEqual(["remove c2"]);
    expect([...remainsOf(seen).handovers]).toEqual([["other", 1]]);
    expect(isCleanedUp(remainsOf(withConfigurations(seen, [])))).toBe(false);
    // A candidate without stable beside it is all that the device has.
    const first = [base, layer("c2", "v2", "candidate")];
    expect(todo(withConfigurations(seen, first))).toEqual([]);
  }
});

test("a deletion that retains first returns a canary, then empties, then waits, then removes", () => {
  const seen = deleted({ configurations: both, others: 1, staleDevices: [staleDevice({ release: "v2" })] });
  expect(todo(seen)).toEqual(["remove c2", "restore cam-9 to plant-a.v1"]);
  const back = { ...seen, staleDevices: [staleDevice()] };
  expect(todo(back)).toEqual(["remove c2", "retarget s1 to no device"]);
  const emptied = {
    ...withConfigurations(back, [base, layer("s1", "v1", "stable", MATCH_NONE)]),
    emptiedAt: NOW,
  };
  expect(todo(emptied)).toEqual([]);
  expect(todo({ ...emptied, staleDevices: [staleDevice({ release: null })] })).toEqual([
    "retain cam-9 on plant-a.v1",
  ]);
  expect(todo({ ...emptied, now: later(NOW, minutes(5)) })).toEqual([]);
  const done = { ...emptied, now: later(NOW, EVALUATED_AFTER) };
  expect(todo(done)).toEqual(["remove s1"]);
  expect(isCleanedUp(remainsOf(withConfigurations(done, [base])))).toBe(true);
});

test("the last base goes before the layers that stand on it, so that the hub leaves edge devices as they are", () => {
  const seen = deleted({ configurations: both.slice(0, 2), staleDevices: [staleDevice()] });
  expect(todo(seen)).toEqual([`remove ${BASE_ID}`, "retarget s1 to no device"]);
});

test("without a device that is left to itself there is nothing to wait for", () => {
  const configurations = both.slice(0, 2);
  expect(todo(deleted({ configurations, others: 1 }))).toEqual(["remove s1"]);
  const gone = staleDevice({ release: null, heirs: ["other"] });
  expect(todo(deleted({ configurations, others: 1, staleDevices: [gone] }))).toEqual(["remove s1"]);
});

test("a device that is being deleted gets no pointer back", () => {
  const configurations = [layer("s1", "v1", "stable", MATCH_NONE)];
  const leaving = staleDevice({ release: null, tagged: true, leaving: true });
  expect(todo(deleted({ configurations, others: 1, emptiedAt: NOW, staleDevices: [leaving] }))).toEqual([]);
});

test("a first installation that never completed is taken away under either policy", () => {
  const seen = deleted({
    configurations: [layer("c2", "v2", "candidate")],
    others: 1,
    staleDevices: [staleDevice({ release: "v2" })],
  });
  const fresh = { ...seen, deployment: { ...seen.deployment, status: null } };
  expect(todo(fresh)).toEqual(["remove c2", "restore cam-9 to nothing"]);
});
