import type { InferenceDeploymentSpec } from "../../api/inference-deployment.ts";
import { BUDGET_DEFAULTS } from "../../api/inference-deployment.ts";
import { devices } from "../text.ts";
import type { Cohort } from "./cohort.ts";

// How many devices may fail or be missing, and how many must have been heard.

/** At least one device runs it and no device at this width is waited for: an empty step proves nothing. */
export function hasArrived(cohort: Cohort, percent: number): boolean {
  return (
    cohort.running > 0 && cohort.waiting === 0 && isWithin(cohort.failed + cohort.stragglers, percent, cohort)
  );
}

export type Budget = {
  /** Past the budget, and enough devices have tried: the candidate is rolled back. */
  readonly spent: boolean;
  /** Failures and devices that are missing, together, are within the budget. */
  readonly covers: boolean;
  /** Failures and missing devices that the hub has pointed at the candidate, together, are past the budget. */
  readonly missed: boolean;
  readonly message: string;
};

/** `percent` is how many of those that tried may fail; judged once as many have tried as can. */
export function failureBudget(
  cohort: Cohort,
  spec: InferenceDeploymentSpec["failureBudget"],
  percent: number,
): Budget {
  const { failed, tried, waiting, stragglers, unplaced } = cohort;
  // Where fewer can be reached than the minimum, all of them are enough.
  const enough = waiting === 0 || tried >= (spec ?? BUDGET_DEFAULTS).minimumReported;
  const spent = enough && failed > 0 && failed * 100 > percent * tried;
  const first = cohort.examples[0];
  return {
    spent,
    covers: isWithin(failed + waiting + stragglers, percent, cohort),
    missed: !isWithin(failed + waiting + stragglers - unplaced, percent, cohort),
    message: `${failed} of ${devices(tried)} that tried the candidate have failed, and the failure budget is ${percent} %${
      first === undefined ? "" : ` (${first})`
    }`,
  };
}

function isWithin(count: number, percent: number, { reachable }: Cohort): boolean {
  return count * 100 <= percent * reachable;
}

export type Coverage = { readonly enough: boolean; readonly message: string };

/**
 * Whether enough of the devices that were there have been heard with the candidate: `percent` of those that have not
 * failed, at least one of each stratum, all but `accepted` ones that a person promoted past. `heard` is how many were.
 */
export function coverageOf(cohort: Cohort, heard: number, percent: number, accepted: number): Coverage {
  const expected = Math.max(0, cohort.reachable - cohort.discounted);
  const needed = Math.max(1, Math.min(Math.ceil((expected * percent) / 100), expected - accepted));
  const strata = accepted > 0 ? [] : cohort.unheardStrata;
  const [first] = strata;
  const where =
    first === undefined
      ? ""
      : `; none of ${strata.length === 1 ? stratumText(first) : `${strata.length} strata`}`;
  return {
    enough: heard >= needed && strata.length === 0,
    message: `${heard} of ${devices(expected)} have provided recent evidence, and ${needed} must${where}`,
  };
}

function stratumText(stratum: string): string {
  return stratum.split("\n").filter(Boolean).join(" / ");
}
