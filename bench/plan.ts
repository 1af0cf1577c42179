import { performance } from "node:perf_hooks";
import type { InferenceDeploymentStatus } from "../src/api/inference-deployment.ts";
import { bucketOf } from "../src/api/membership.ts";
import { timestampOf } from "../src/base/time.ts";
import { decideRollout } from "../src/rollouts/decide.ts";
import type { Member, RolloutSeen } from "../src/rollouts/seen.ts";
import { deploymentSpec, releaseSpec } from "../test/builders/specs.ts";
import { look, memberAt, NOW, running } from "../test/stories/seen.ts";
import { devicesAsked } from "./shared/command.ts";
import { percentile, publish } from "./shared/figures.ts";

const HELP = `node bench/plan.ts [--devices N]        (default 10000)

How long one decision about a rollout takes: which devices are exposed, what they say, the verdict, the actions, the
status. No input or output; a decision is a function of what was seen.`;

const ROUNDS = 30;
const SITES = ["plant-a", "plant-b", "plant-c", "plant-d"] as const;

const count = devicesAsked(HELP, 10_000);
if (count !== null) {
  const members = Array.from({ length: count }, (_, index): Member => {
    const device = `cam-${index}`;
    const site = SITES[index % SITES.length];
    return running(memberAt(index, { device, site, bucket: bucketOf("bench", device) }), "v1", 40);
  });
  const phases: readonly (readonly [string, RolloutSeen])[] = [
    ["the plan of a new release", given(members, "v2", { phase: "Completed", stable: reference("v1") })],
    ["its first step begins", given(members, "v2", pending())],
    ["a look at 25 %, all devices report", given(mixed(members), "v2", atStep(1, 25))],
    ["a look at 100 %, all devices report", given(mixed(members), "v2", atStep(2, 100))],
    ["a look at a completed rollout", given(members, "v1", { phase: "Completed", stable: reference("v1") })],
  ];
  publish(
    `one decision about a rollout of ${count} devices, CPU`,
    phases.map(([what, seen]) => {
      const times = Array.from({ length: ROUNDS }, () => timed(() => decideRollout(seen)));
      return {
        what,
        value: `${percentile(times, 0.5).toFixed(0)} ms (p95 ${percentile(times, 0.95).toFixed(0)})`,
        against: "goal < 1 s at 10,000",
      };
    }),
  );
}

function timed(work: () => unknown): number {
  const started = performance.now();
  work();
  return performance.now() - started;
}

function given(members: readonly Member[], release: string, status: InferenceDeploymentStatus): RolloutSeen {
  const { strategy } = deploymentSpec(release);
  if (strategy === undefined) throw new Error("the deployments of the stories have a strategy");
  const steps = [{ percent: 5 }, { percent: 25 }, { percent: 100 }];
  const seen = look({ members, release, spec: { strategy: { ...strategy, steps } } });
  return { ...seen, deployment: { ...seen.deployment, status } };
}

function reference(release: string) {
  return { release, digests: releaseSpec(release).variants.map(({ digest }) => digest) };
}

function pending(): InferenceDeploymentStatus {
  return { phase: "Pending", stable: reference("v1"), candidate: reference("v2") };
}

function atStep(index: number, percent: number): InferenceDeploymentStatus {
  const exposure = SITES.map((site) => ({
    site,
    deviceClass: "orin",
    threshold: percent * 10_000,
    devices: 1,
  }));
  return {
    phase: "Progressing",
    stable: reference("v1"),
    candidate: reference("v2"),
    step: { index, percent, startedAt: timestampOf(NOW) },
    exposure,
  };
}

/** Half of the fleet has arrived at the candidate. */
function mixed(members: readonly Member[]): readonly Member[] {
  return members.map((member) => (member.bucket < 500_000 ? running(member, "v2", 42) : member));
}
