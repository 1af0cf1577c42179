import { FLEET } from "./fleet.ts";
import { HUB_BUDGET } from "./hub-budget.ts";
import type { Dashboard } from "./panel.ts";
import { ROLLOUT } from "./rollout.ts";
import { VERIFICATION } from "./verification.ts";

/** The dashboards of the chart. */
export const DASHBOARDS: readonly Dashboard[] = [FLEET, ROLLOUT, VERIFICATION, HUB_BUDGET];
