import {
  isObject,
  type JsonObject,
  NOTHING,
  ownValue,
  sameJson,
  setKey,
  valueAt,
  withoutValueAt,
  withValueAt,
} from "../../base/json.ts";
import { createListeners, type PersistedRecords } from "../persistence.ts";
import { NO_ACTIVITY, twinRow } from "../query/document.ts";
import type { Identity } from "../registry/identity.ts";
import type { Registry } from "../registry/registry.ts";
import { mergePatch } from "../twins/merge-patch.ts";
import { type Section, type TwinKey, twinKey } from "../twins/twin.ts";
import type { Twins } from "../twins/twins.ts";
import type { Configuration } from "./configuration.ts";
import type { Configurations } from "./configurations.ts";
import {
  byRank,
  type EdgePlan,
  type EqualPriorityLayers,
  isWithin,
  NO_PLAN,
  type Owned,
  type Plan,
  planEdge,
  planPaths,
} from "./evaluation-plan.ts";

export type EvaluationOptions = {
  /** What becomes of a layer's values on a device that its condition no longer holds for: reports disagree. */
  readonly untargetedLayer: "remove" | "keep";
  /** Of layers with one priority: `newestOnly` applies the youngest alone, `perPath` lets the youngest win path by path. */
  readonly equalPriorityLayers: EqualPriorityLayers;
  /** Whether the deletion of a deployment sends what is applied once more to the devices that it targeted. */
  readonly repushOnDelete: boolean;
  /** Whether a deployment that writes to a module's twin clears the tags of it. */
  readonly clearModuleTags: boolean;
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

/** What was last set on a twin, to be taken back one day, and what the twin then was: an unchanged one costs nothing. */
type Memory = {
  /** `null`: it was set in an earlier life. */
  readonly plan: Plan | null;
  /** Desired properties of the first level that the plan gave as a whole. */
  readonly whole: readonly string[];
  /** Everything that was set, with what was kept of layers that target the twin no more. */
  readonly owned: readonly Owned[];
  readonly kept: readonly Owned[];
  readonly section: Section | null;
};

type Tally = { targeted: number; applied: number; successful: number; failed: number };

/**
 * Automatic device management: which configurations each twin gets, and what that makes of its desired properties.
 * A deployment owns what it has set: edits by hand are reverted at the next run.
 */
export function createEvaluation(parts: EvaluationParts, options: EvaluationOptions): Evaluation {
  const { registry, twins, configurations } = parts;
  const memories = new Map<TwinKey, Memory>();
  const changes = createListeners();
  // Devices get one of few sets of configurations, and each set is planned once.
  const edgePlans = new Map<string, EdgePlan>();
  const pathPlans = new Map<string, Plan>();

  /** Configurations of the last run: one that is gone has been deleted since. */
  let known: ReadonlySet<string> = new Set();

  configurations.onChange(() => {
    edgePlans.clear();
    pathPlans.clear();
  });
  twins.onWrite((write) => {
    if (write.twin === null) forget(write.key);
  });

  function forget(key: TwinKey): void {
    if (memories.delete(key)) changes.notify(key);
  }

  function run(): number {
    const ranked = configurations.list().toSorted(byRank);
    const tallies = new Map<string, Tally>(
      ranked.map((one) => [one.id, { targeted: 0, applied: 0, successful: 0, failed: 0 }]),
    );
    let writes = 0;
    const deleted = [...known].filter((id) => configurations.get(id) === undefined);
    known = new Set(ranked.map(({ id }) => id));
    for (const identity of registry.devices()) {
      const targeted = options.repushOnDelete && wasTargeted(identity.deviceId, deleted);
      writes += evaluateDevice(identity, ranked, tallies);
      if (targeted) writes += pushAgain(identity.deviceId);
    }
    for (const one of ranked) {
      const tally = tallies.get(one.id);
      if (tally !== undefined) configurations.setResults(one.id, resultsOf(one, tally));
    }
    return writes;
  }

  function wasTargeted(device: string, ids: readonly string[]): boolean {
    const status = twins.get(twinKey(device, "$edgeAgent"))?.configurations ?? {};
    return ids.some((id) => Object.hasOwn(status, id));
  }

  /** The same content under a new version, for every module that a deployment has set something on. */
  function pushAgain(device: string): number {
    let writes = 0;
    for (const { moduleId } of registry.modulesOf(device)) {
      const key = twinKey(device, moduleId);
      const memory = memories.get(key);
      const isSet = memory !== undefined && (memory.whole.length > 0 || memory.owned.length > 0);
      const written = isSet ? twins.patch(key, { tags: null, desired: NOTHING }, null) : null;
      if (memory === undefined || written?.ok !== true) continue;
      memories.set(key, { ...memory, section: written.value.desired });
      writes += 1;
    }
    return writes;
  }

  function evaluateDevice(
    identity: Identity,
    ranked: readonly Configuration[],
    tallies: ReadonlyMap<string, Tally>,
  ): number {
    const twin = twins.get(identity.deviceId);
    if (twin === undefined) return 0;
    const row = twinRow(identity, twin, () => NO_ACTIVITY);
    const forDevice: Configuration[] = [];
    const forEdge: Configuration[] = [];
    for (const one of ranked) {
      if (one.kind === "module" || (one.kind !== "device" && !identity.iotEdge)) continue;
      if (!one.condition.matches(row)) continue;
      (one.kind === "device" ? forDevice : forEdge).push(one);
      add(tallies, one.id, "targeted");
    }
    const plan = pathPlanOf(forDevice);
    const writes = assign(identity.deviceId, plan, "remove");
    countApplied(tallies, plan);
    if (!identity.iotEdge) return writes + evaluateModules(identity, null, ranked, tallies);
    return writes + evaluateModules(identity, edgePlanOf(forEdge), ranked, tallies);
  }

  /** The agent's twin first: the manifest in it makes the modules that the other plans are for. */
  function evaluateModules(
    identity: Identity,
    edge: EdgePlan | null,
    ranked: readonly Configuration[],
    tallies: ReadonlyMap<string, Tally>,
  ): number {
    const device = identity.deviceId;
    const forModules = ranked.filter((one) => one.kind === "module");
    let writes = 0;
    if (edge !== null) {
      const plan = edge.modules["$edgeAgent"] ?? NO_PLAN;
      writes += assignEdge(twinKey(device, "$edgeAgent"), plan, edge.owned);
      if (edge.owned) ensureModules(device);
      countApplied(tallies, plan);
      countReports(tallies, device, plan);
    }
    if (edge === null && forModules.length === 0) return writes;
    for (const module of registry.modulesOf(device)) {
      if (module.moduleId === null || module.moduleId === "$edgeAgent") continue;
      const key = twinKey(device, module.moduleId);
      const plan = (edge === null ? undefined : ownValue(edge.modules, module.moduleId)) ?? NO_PLAN;
      if (forModules.length === 0) writes += assignEdge(key, plan, edge?.owned ?? false);
      else writes += evaluateModule(module, plan, forModules, tallies);
    }
    return writes;
  }

  function evaluateModule(
    module: Identity,
    plan: Plan,
    forModules: readonly Configuration[],
    tallies: ReadonlyMap<string, Tally>,
  ): number {
    const key = twinKey(module.deviceId, module.moduleId);
    const twin = twins.get(key);
    if (twin === undefined) return 0;
    const row = twinRow(module, twin, () => NO_ACTIVITY);
    const matching = forModules.filter((one) => one.condition.matches(row));
    for (const one of matching) add(tallies, one.id, "targeted");
    const own = pathPlanOf(matching);
    countApplied(tallies, own);
    return assign(
      key,
      { whole: plan.whole, paths: [...plan.paths, ...own.paths], status: { ...plan.status, ...own.status } },
      "remove",
    );
  }

  function pathPlanOf(matching: readonly Configuration[]): Plan {
    if (matching.length === 0) return NO_PLAN;
    const key = matching.map((one) => one.id).join(" ");
    const plan = pathPlans.get(key) ?? planPaths(matching);
    pathPlans.set(key, plan);
    return plan;
  }

  function edgePlanOf(matching: readonly Configuration[]): EdgePlan {
    const key = matching.map((one) => one.id).join(" ");
    const plan = edgePlans.get(key) ?? planEdge(matching, options.equalPriorityLayers);
    edgePlans.set(key, plan);
    return plan;
  }

  /** Without a base nothing is touched: the modules run on, unmanaged. */
  function assignEdge(key: TwinKey, plan: Plan, owned: boolean): number {
    if (owned) return assign(key, plan, options.untargetedLayer);
    forget(key);
    twins.setConfigurations(key, plan.status);
    return 0;
  }

  function assign(key: TwinKey, plan: Plan, untargeted: EvaluationOptions["untargetedLayer"]): number {
    const twin = twins.get(key);
    const memory = memories.get(key);
    if (twin === undefined || (memory === undefined && plan === NO_PLAN && isBare(twin.configurations)))
      return 0;
    if (memory?.plan === plan && memory.section === twin.desired && memory.kept.every(isThere)) return 0;
    const had = twin.desired.value;
    const lost = (memory?.owned ?? []).filter(
      (old) => !plan.paths.some((path) => isWithin(old.path, path.path)),
    );
    const kept = lost.filter((old) => untargeted === "keep" && isThere(old));
    const wanted = wantedOf(had, plan, memory, { lost, kept });
    const differs = !sameJson(had, wanted);
    const tags = options.clearModuleTags && twin.moduleId !== null ? mergePatch(twin.tags, NOTHING) : null;
    const written = differs ? twins.patch(key, { tags, desired: mergePatch(had, wanted) }, null) : null;
    // What does not fit into the twin is not applied: the configuration stays Targeted there.
    const status = written?.ok === false ? asTargeted(plan.status) : plan.status;
    twins.setConfigurations(key, status);
    if (written?.ok === false) return 0;
    const section = (written?.value ?? twin).desired;
    if (plan === NO_PLAN && kept.length === 0) forget(key);
    else {
      const whole = Object.keys(plan.whole ?? NOTHING);
      const owned = [...plan.paths, ...kept];
      memories.set(key, { plan, whole, owned, kept, section });
      if (!sameJson(memory?.whole, whole) || !sameJson(memory?.owned, owned)) changes.notify(key);
    }
    return written === null ? 0 : 1;
  }

  function isThere(owned: Owned): boolean {
    return configurations.get(owned.owner) !== undefined;
  }

  function ensureModules(device: string): void {
    const manifest = twins.get(twinKey(device, "$edgeAgent"))?.desired.value["modules"];
    if (!isObject(manifest)) return;
    for (const module of Object.keys(manifest)) registry.ensureModule(device, module);
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
    ensureModules(device);
    for (const module of Object.keys(settings)) if (module !== "$edgeAgent") set(module);
  }

  function countReports(tallies: ReadonlyMap<string, Tally>, device: string, plan: Plan): void {
    const agent = twins.get(twinKey(device, "$edgeAgent"));
    if (agent === undefined) return;
    const { lastDesiredVersion } = agent.reported.value;
    if (lastDesiredVersion !== agent.desired.version) return;
    const code = valueAt(agent.reported.value, ["lastDesiredStatus", "code"]);
    for (const [id, status] of Object.entries(plan.status))
      if (status === "Applied") add(tallies, id, code === 200 ? "successful" : "failed");
  }

  function resultsOf(one: Configuration, tally: Tally) {
    const custom: Record<string, number> = {};
    for (const [name, text] of Object.entries(one.metrics)) {
      const rows = parts.countRows(text);
      if (rows !== null) setKey(custom, name, rows);
    }
    const system: Record<string, number> = { targetedCount: tally.targeted, appliedCount: tally.applied };
    if (one.kind === "standard" || one.kind === "layered") {
      system["reportedSuccessfulCount"] = tally.successful;
      system["reportedFailedCount"] = tally.failed;
    }
    return { system, custom };
  }

  return {
    run,
    applyOnce,
    persisted: {
      kind: "ownership",
      record: (key) => {
        const memory = memories.get(key);
        if (memory === undefined) return undefined;
        const { whole, owned, kept } = memory;
        return { whole, owned: owned.slice(0, owned.length - kept.length), kept };
      },
      restore: (key, record) => {
        const { whole, owned, kept } = record as unknown as Pick<Memory, "whole" | "owned" | "kept">;
        memories.set(key, { plan: null, whole, owned: [...owned, ...kept], kept, section: null });
      },
      onChange: changes.add,
    },
  };
}

/** Desired properties as the plan wants them, starting from what is there. */
function wantedOf(
  had: JsonObject,
  plan: Plan,
  memory: Memory | undefined,
  gone: { readonly lost: readonly Owned[]; readonly kept: readonly Owned[] },
): JsonObject {
  let wanted = plan.whole ?? had;
  if (plan.whole === null) {
    for (const key of memory?.whole ?? []) wanted = withoutValueAt(wanted, [key]);
    for (const { path } of gone.lost)
      if (!gone.kept.some((one) => one.path === path)) wanted = withoutValueAt(wanted, path);
  }
  for (const { path, value } of [...gone.kept, ...plan.paths])
    wanted = value === null ? withoutValueAt(wanted, path) : withValueAt(wanted, path, value);
  return wanted;
}

function isBare(configurations: object): boolean {
  return Object.keys(configurations).length === 0;
}

function asTargeted(status: Plan["status"]): Plan["status"] {
  return Object.fromEntries(Object.keys(status).map((id) => [id, "Targeted" as const]));
}

function add(tallies: ReadonlyMap<string, Tally>, id: string, what: keyof Tally): void {
  const tally = tallies.get(id);
  if (tally !== undefined) tally[what] += 1;
}

function countApplied(tallies: ReadonlyMap<string, Tally>, plan: Plan): void {
  for (const [id, status] of Object.entries(plan.status))
    if (status === "Applied") add(tallies, id, "applied");
}
