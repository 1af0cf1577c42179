import { setKey, valueAt } from "../../base/json.ts";
import type { Twin } from "../twins/twin.ts";
import type { Configuration } from "./configuration.ts";
import type { Plan } from "./evaluation-plan.ts";

type Tally = { targeted: number; applied: number; successful: number; failed: number };

/** What one run of the evaluation counts for each configuration: its system metrics. */
export type Tallies = ReadonlyMap<string, Tally>;

export function newTallies(configurations: readonly Configuration[]): Tallies {
  return new Map(
    configurations.map((one) => [one.id, { targeted: 0, applied: 0, successful: 0, failed: 0 }]),
  );
}

export function count(tallies: Tallies, id: string, what: keyof Tally): void {
  const tally = tallies.get(id);
  if (tally !== undefined) tally[what] += 1;
}

export function countApplied(tallies: Tallies, plan: Plan): void {
  for (const [id, status] of Object.entries(plan.status))
    if (status === "Applied") count(tallies, id, "applied");
}

/** What the edge agent said of the deployments whose desired properties it has processed. */
export function countReports(tallies: Tallies, agent: Twin | undefined, plan: Plan): void {
  if (agent === undefined) return;
  const { lastDesiredVersion } = agent.reported.value;
  if (lastDesiredVersion !== agent.desired.version) return;
  const code = valueAt(agent.reported.value, ["lastDesiredStatus", "code"]);
  for (const [id, status] of Object.entries(plan.status))
    if (status === "Applied") count(tallies, id, code === 200 ? "successful" : "failed");
}

/** Metrics of a configuration. `countRows` answers a metric's query, `null` where it cannot be run. */
export function resultsOf(one: Configuration, tallies: Tallies, countRows: (query: string) => number | null) {
  const tally = tallies.get(one.id) ?? { targeted: 0, applied: 0, successful: 0, failed: 0 };
  const custom: Record<string, number> = {};
  for (const [name, text] of Object.entries(one.metrics)) {
    const rows = countRows(text);
    if (rows !== null) setKey(custom, name, rows);
  }
  const system: Record<string, number> = { targetedCount: tally.targeted, appliedCount: tally.applied };
  if (one.kind === "standard" || one.kind === "layered") {
    system["reportedSuccessfulCount"] = tally.successful;
    system["reportedFailedCount"] = tally.failed;
  }
  return { system, custom };
}
