import { isObject, ownValue, withValueAt } from "../../base/json.ts";
import type { PersistedRecords } from "../persistence.ts";
import { NO_ACTIVITY, twinRow } from "../query/document.ts";
import type { Identity } from "../registry/identity.ts";
import type { Registry } from "../registry/registry.ts";
import { mergePatch } from "../twins/merge-patch.ts";
import { twinKey } from "../twins/twin.ts";
import type { Twins } from "../twins/twins.ts";
import type { Configuration } from "./configuration.ts";
import type { Configurations } from "./configurations.ts";
import {
  byRank,
  createPlanCache,
  type EdgePlan,
  type EqualPriorityLayers,
  NO_PLAN,
  type Plan,
} from "./evaluation-plan.ts";
import { createOwnership, type Ownership, type OwnershipOptions } from "./ownership.ts";
import { count, countApplied, countReports, newTallies, resultsOf, type Tallies } from "./tallies.ts";

export type EvaluationOptions = OwnershipOptions & {
  /** Of layers with one priority: `newestOnly` applies the youngest alone, `perPath` lets the youngest win path by path. */
  readonly equalPriorityLayers: EqualPriorityLayers;
  /** Whether the deletion of a deployment sends what is applied once more to the devices that it targeted. */
  readonly repushOnDelete: boolean;
};

export type Evaluation = {
  /** Applies every configuration to every twin it is for; answers how many twins were written. */
  readonly run: () => number;
  /** Content for one device, set by hand: the next evaluation takes it back where a deployment owns the device. */
  readonly applyOnce: (device: string, settings: Configuration["settings"]) => void;
  /** What was set on each twin. */
  readonly persisted: PersistedRecords;
};

export type EvaluationParts = {
  readonly registry: Registry;
  readonly twins: Twins;
  readonly configurations: Configurations;
  /** Number of rows of a metric's query; `null` where it cannot be run. */
  readonly countRows: (query: string) => number | null;
};

/**
 * Automatic device management: which configurations each twin gets, and what that makes of its desired properties.
 * A deployment owns what it has set: edits by hand are reverted at the next run.
 */
export function createEvaluation(parts: EvaluationParts, options: EvaluationOptions): Evaluation {
  const { registry, twins, configurations } = parts;
  const ownership = createOwnership(twins, configurations, options);
  const devices = createDeviceEvaluation(parts, options, ownership);

  /** Configurations of the last run: one that is gone has been deleted since. */
  let known: ReadonlySet<string> = new Set();

  function run(): number {
    const ranked = configurations.list().toSorted(byRank);
    const tallies = newTallies(ranked);
    let writes = 0;
    const deleted = [...known].filter((id) => configurations.get(id) === undefined);
    known = new Set(ranked.map(({ id }) => id));
    for (const identity of registry.devices()) {
      const targeted = options.repushOnDelete && wasTargeted(identity.deviceId, deleted);
      writes += devices.evaluate(identity, ranked, tallies);
      if (!targeted) continue;
      for (const { moduleId } of registry.modulesOf(identity.deviceId))
        writes += ownership.pushAgain(twinKey(identity.deviceId, moduleId));
    }
    for (const one of ranked) configurations.setResults(one.id, resultsOf(one, tallies, parts.countRows));
    return writes;
  }

  function wasTargeted(device: string, ids: readonly string[]): boolean {
    const status = twins.get(twinKey(device, "$edgeAgent"))?.configurations ?? {};
    return ids.some((id) => Object.hasOwn(status, id));
  }

  function applyOnce(device: string, settings: Configuration["settings"]): void {
    const set = (module: string): void => {
      const key = twinKey(device, module);
      const twin = twins.get(key);
      if (twin === undefined) return;
      let wanted = twin.desired.value;
      for (const { path, value } of ownValue(settings, module) ?? [])
        wanted = path.length === 0 && isObject(value) ? value : withValueAt(wanted, path, value);
      twins.patch(key, { tags: null, desired: mergePatch(twin.desired.value, wanted) }, null);
      twins.setConfigurations(key, {});
    };
    set("$edgeAgent");
    ensureModules(parts, device);
    for (const module of Object.keys(settings)) if (module !== "$edgeAgent") set(module);
  }

  return { run, applyOnce, persisted: ownership.persisted };
}

/** The same for one device and its modules. */
function createDeviceEvaluation(parts: EvaluationParts, options: EvaluationOptions, ownership: Ownership) {
  const { registry, twins } = parts;
  const plans = createPlanCache(options.equalPriorityLayers);
  parts.configurations.onChange(plans.clear);

  function evaluate(identity: Identity, ranked: readonly Configuration[], tallies: Tallies): number {
    const twin = twins.get(identity.deviceId);
    if (twin === undefined) return 0;
    const row = twinRow(identity, twin, () => NO_ACTIVITY);
    const forDevice: Configuration[] = [];
    const forEdge: Configuration[] = [];
    for (const one of ranked) {
      if (one.kind === "module" || (one.kind !== "device" && !identity.iotEdge)) continue;
      if (!one.condition.matches(row)) continue;
      (one.kind === "device" ? forDevice : forEdge).push(one);
      count(tallies, one.id, "targeted");
    }
    const plan = plans.paths(forDevice);
    const writes = ownership.assign(identity.deviceId, plan, "remove");
    countApplied(tallies, plan);
    if (!identity.iotEdge) return writes + evaluateModules(identity, null, ranked, tallies);
    return writes + evaluateModules(identity, plans.edge(forEdge), ranked, tallies);
  }

  /** The agent's twin first: the manifest in it makes the modules that the other plans are for. */
  function evaluateModules(
    identity: Identity,
    edge: EdgePlan | null,
    ranked: readonly Configuration[],
    tallies: Tallies,
  ): number {
    const device = identity.deviceId;
    const forModules = ranked.filter((one) => one.kind === "module");
    let writes = 0;
    if (edge !== null) {
      const plan = edge.modules["$edgeAgent"] ?? NO_PLAN;
      writes += ownership.assignEdge(twinKey(device, "$edgeAgent"), plan, edge.owned);
      if (edge.owned) ensureModules(parts, device);
      countApplied(tallies, plan);
      countReports(tallies, twins.get(twinKey(device, "$edgeAgent")), plan);
    }
    if (edge === null && forModules.length === 0) return writes;
    for (const module of registry.modulesOf(device)) {
      if (module.moduleId === null || module.moduleId === "$edgeAgent") continue;
      const key = twinKey(device, module.moduleId);
      const plan = (edge === null ? undefined : ownValue(edge.modules, module.moduleId)) ?? NO_PLAN;
      if (forModules.length === 0) writes += ownership.assignEdge(key, plan, edge?.owned ?? false);
      else writes += evaluateModule(module, plan, forModules, tallies);
    }
    return writes;
  }

  function evaluateModule(
    module: Identity,
    plan: Plan,
    forModules: readonly Configuration[],
    tallies: Tallies,
  ): number {
    const key = twinKey(module.deviceId, module.moduleId);
    const twin = twins.get(key);
    if (twin === undefined) return 0;
    const row = twinRow(module, twin, () => NO_ACTIVITY);
    const matching = forModules.filter((one) => one.condition.matches(row));
    for (const one of matching) count(tallies, one.id, "targeted");
    const own = plans.paths(matching);
    countApplied(tallies, own);
    return ownership.assign(
      key,
      { whole: plan.whole, paths: [...plan.paths, ...own.paths], status: { ...plan.status, ...own.status } },
      "remove",
    );
  }

  return { evaluate };
}

/** Identities of the modules that the manifest of an edge device names. */
function ensureModules({ twins, registry }: EvaluationParts, device: string): void {
  const manifest = twins.get(twinKey(device, "$edgeAgent"))?.desired.value["modules"];
  if (!isObject(manifest)) return;
  for (const module of Object.keys(manifest)) registry.ensureModule(device, module);
}
