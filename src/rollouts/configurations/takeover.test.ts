import { expect, test } from "vitest";
import { releaseSpec } from "../../../test/builders/specs.ts";
import { type Given, look, memberAt, releaseNamed } from "../../../test/stories/seen.ts";
import type { Member, RolloutSeen } from "../seen.ts";
import type { RolloutState } from "../state/state.ts";
import { type Takeover, takeoverOf } from "./takeover.ts";

const fresh = {
  phase: "Pending",
  quarantined: [],
  handled: { abort: null, promote: null, retry: null },
  history: [],
  stable: null,
  candidate: null,
} as const satisfies RolloutState;

function given(index: number, release: string, more: Partial<Member["pointer"]> = {}): Member {
  const { digest } = releaseSpec(release).variants[0]!;
  const pointer = { deployment: "plant-a.old", release: `plant-a.${release}`, digest, ...more };
  return memberAt(index, { tagged: false, pointer });
}

const onV1 = [0, 1, 2, 3].map((index) => given(index, "v1"));

/** The release that is going to be stable; the configurations for it have to be made first. */
function takes(seen: RolloutSeen, state: RolloutState = fresh): string | null {
  const takeover = takeoverOf(state, seen);
  if (takeover.kind !== "preparing") return null;
  const create = takeover.actions.find((action) => action.kind === "create");
  return create === undefined ? null : create.pointer.release;
}

function world(members: readonly Member[], more: Given = {}): RolloutSeen {
  return look({ members, release: "v1", ...more });
}

test("what most devices were given by others is taken over, once its configurations stand", () => {
  const takeover: Takeover = takeoverOf(fresh, world(onV1));
  expect(takeover).toMatchObject({ kind: "preparing", problem: null });
  expect(takes(world(onV1))).toBe("plant-a.v1");
  expect(takes(world([...onV1, given(9, "v2")], { release: "v2" }))).toBe("plant-a.v1");
});

test("of two releases with as many devices the one in spec is taken", () => {
  const both = [given(0, "v1"), given(1, "v2")];
  expect(takes(world(both, { release: "v2" }))).toBe("plant-a.v2");
  expect(takes(world(both, { release: "v1" }))).toBe("plant-a.v1");
});

test("nothing is taken over that could not be given to a device again", () => {
  const other = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
  expect(takes(world(onV1.map((_, index) => given(index, "v1", { digest: other }))))).toBeNull();
  expect(takes(world(onV1, { releases: [releaseNamed("v2")] }))).toBeNull();
  const failed = world(onV1, { releases: [releaseNamed("v1", "Failed")] });
  expect(takeoverOf(fresh, failed)).toEqual({ kind: "none" });
  const at = look().now;
  const quarantined = [{ release: "v1", reason: "Aborted", at }];
  expect(takes(world(onV1), { ...fresh, quarantined })).toBeNull();
  expect(takes(world(onV1.map((_, index) => given(index, "v1", { deployment: "plant-b.old" }))))).toBeNull();
});

test("a release that is being verified again is waited for, and nothing is made meanwhile", () => {
  const takeover = takeoverOf(fresh, world(onV1, { releases: [releaseNamed("v1", "Pending")] }));
  expect(takeover).toMatchObject({ kind: "preparing", actions: [], problem: { reason: "TakingOver" } });
});

test("a pointer of its own name counts only for a deployment that has no history", () => {
  const own = onV1.map((_, index) => given(index, "v1", { deployment: "plant-a.resnet" }));
  expect(takes(world(own))).toBe("plant-a.v1");
  const history = [{ at: "2026-01-10T00:00:00.000Z", phase: "Pending", message: "v1 is withdrawn" }] as never;
  expect(takes(world(own), { ...fresh, history })).toBeNull();
  expect(takes(world(onV1), { ...fresh, history })).toBe("plant-a.v1");
});

test("a full hub says so, and nothing is made", () => {
  const takeover = takeoverOf(fresh, world(onV1, { settings: { hubConfigurationLimit: 1 } }));
  expect(takeover).toMatchObject({ kind: "preparing", actions: [], problem: { reason: "HubFull" } });
});
