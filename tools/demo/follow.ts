import { setTimeout as sleep } from "node:timers/promises";
import type { InferenceDeploymentStatus } from "../../src/api/inference-deployment.ts";
import type { LocalStack } from "../stack/local-stack.ts";
import { type Demo, deployment, NAMESPACE, requireThat } from "./cluster.ts";

export type Followed = {
  readonly seconds: string;
  readonly updated: number;
  readonly widths: readonly number[];
  readonly steps: readonly { readonly percent: number; readonly exposed: number; readonly writes: number }[];
  /** Writes of configurations that no step is charged with: making it stable, and cleaning up. */
  readonly closingWrites: number;
  readonly mostExposed: number;
  /** When the first device ran it, and when the rollback was decided; milliseconds, 0 where that never was. */
  readonly firstRanAt: number;
  readonly rollbackAt: number;
  readonly verified: boolean;
  readonly message: string;
};

/** Watches the deployment until `release` has reached `goal`, and prints a line whenever something changes. */
export async function follow(
  demo: Demo,
  release: string,
  goal: "Completed" | "RolledBack",
): Promise<Followed> {
  const { kubectl, say, show } = demo;
  const began = Date.now();
  const steps: { percent: number; exposed: number; writes: number }[] = [];
  const writesSinceLast = await countWrites(demo.stack);
  let [mostExposed, last, firstRanAt, closingWrites, verified] = [0, "", 0, 0, false];
  for (;;) {
    const { status, spec, metadata } = await deployment(kubectl);
    const current = status?.observedGeneration === metadata.generation && spec.release.name === release;
    if (status !== undefined && current) {
      const exposed = status.devices?.exposed ?? 0;
      if (status.candidate?.release === release) mostExposed = Math.max(mostExposed, exposed);
      const conditions = new Map(status.conditions?.map((condition) => [condition.type, condition]));
      verified ||= conditions.get("ReleaseVerified")?.status === "True";
      if (firstRanAt === 0 && (await runningOn(demo.stack, release)) > 0) firstRanAt = Date.now();
      const writes = await writesSinceLast();
      if (status.step === undefined || status.phase === "RollingBack") closingWrites += writes;
      else noteStep(steps, { percent: status.step.percent, exposed, writes });
      const line = describe(status);
      if (line !== last) say(line);
      last = line;
      show(bar(status));
      const settled =
        goal === "Completed" ? status.stable?.release === release : status.rollback?.release === release;
      if (status.phase === goal && settled)
        return {
          seconds: ((Date.now() - began) / 1000).toFixed(1),
          updated: status.devices?.updated ?? 0,
          widths: steps.map(({ percent }) => percent),
          steps,
          mostExposed,
          closingWrites,
          firstRanAt,
          rollbackAt: status.rollback === undefined ? 0 : Date.parse(status.rollback.at),
          verified,
          message: conditions.get("Degraded")?.message ?? "",
        };
      requireThat(
        goal === "RolledBack" || status.phase !== "RolledBack",
        `${release} was rolled back: ${status.rollback?.message}`,
      );
    }
    requireThat(Date.now() - began < 120_000, `${release} is ${goal} within 120 s; last: ${last}`);
    await sleep(250);
  }
}

type StepSeen = { percent: number; exposed: number; writes: number };

function noteStep(steps: StepSeen[], seen: StepSeen): void {
  const known = steps.find((step) => step.percent === seen.percent);
  if (known === undefined) steps.push({ ...seen });
  else {
    known.exposed = Math.max(known.exposed, seen.exposed);
    known.writes += seen.writes;
  }
}

/** How many configurations were written to the hub since the last call. */
async function countWrites(stack: LocalStack): Promise<() => Promise<number>> {
  const read = async () => {
    const { writes } = (await stack.control("GET", "/sim/counters")) as {
      readonly writes: { readonly configuration: number };
    };
    return writes.configuration;
  };
  let before = await read();
  return async () => {
    const now = await read();
    const grown = now - before;
    before = now;
    return grown;
  };
}

async function runningOn(stack: LocalStack, release: string): Promise<number> {
  const { releases } = (await stack.control("GET", "/sim/fleet")) as {
    readonly releases: Readonly<Record<string, number>>;
  };
  return releases[`${NAMESPACE}.${release}`] ?? 0;
}

function describe(status: InferenceDeploymentStatus): string {
  const { phase = "Pending", candidate, stable, step, devices } = status;
  const width = step === undefined ? "" : `step ${step.index + 1} at ${step.percent} %  `;
  const counts =
    devices === undefined
      ? ""
      : `exposed ${devices.exposed}/${devices.matched}  updated ${devices.updated}  failed ${devices.failed}  on stable ${devices.onStable}`;
  const verdicts = (status.analysis ?? [])
    .filter(({ verdict }) => verdict === "Fail" || verdict === "Warn")
    .map(({ metric, value, bound }) => `${metric} ${value} past ${bound}`);
  const which = candidate === undefined ? (stable?.release ?? "nothing") : candidate.release;
  return [`${phase.padEnd(11)} ${which.padEnd(18)} ${width}${counts}`, ...verdicts].join("  ");
}

/** One character for each fiftieth of the fleet: `#` runs the candidate, `+` is exposed to it, `.` is not. */
function bar({ devices, candidate }: InferenceDeploymentStatus): string {
  if (devices === undefined || devices.matched === 0) return "";
  const cells = (part: number) => Math.round((50 * part) / devices.matched);
  const exposed = cells(candidate === undefined ? devices.matched : devices.exposed);
  const running = Math.min(exposed, cells(Math.max(0, devices.matched - devices.onStable)));
  const done = candidate === undefined ? cells(devices.updated) : running;
  return `[${"#".repeat(done)}${"+".repeat(Math.max(0, exposed - done))}${".".repeat(50 - Math.max(exposed, done))}]`;
}
