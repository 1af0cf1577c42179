import { type JsonObject, NOTHING, sameJson, withoutValueAt, withValueAt } from "../../base/json.ts";
import { createListeners, type PersistedRecords } from "../persistence.ts";
import { mergePatch } from "../twins/merge-patch.ts";
import type { Section, TwinKey } from "../twins/twin.ts";
import type { Twins } from "../twins/twins.ts";
import type { Configurations } from "./configurations.ts";
import { isWithin, NO_PLAN, type Owned, type Plan } from "./evaluation-plan.ts";

export type OwnershipOptions = {
  /** What becomes of a layer's values on a device that its condition no longer holds for: reports disagree. */
  readonly untargetedLayer: "remove" | "keep";
  /** Whether a deployment that writes to a module's twin clears the tags of it. */
  readonly clearModuleTags: boolean;
};

/** What configurations have set on each twin, and what that makes of its desired properties. */
export type Ownership = {
  /** Brings the twin to the plan; answers how many twins were written. */
  readonly assign: (key: TwinKey, plan: Plan, untargeted: OwnershipOptions["untargetedLayer"]) => number;
  /** The same for a module of an edge device; without a base nothing is touched: the modules run on, unmanaged. */
  readonly assignEdge: (key: TwinKey, plan: Plan, owned: boolean) => number;
  /** The same content under a new version, if a configuration has set anything on the twin. */
  readonly pushAgain: (key: TwinKey) => number;
  readonly persisted: PersistedRecords;
};

/** What was last set on a twin, to be taken back one day, and what the twin then was: an unchanged one costs nothing. */
type Memory = {
  /** `null`: it was restored from a state file. */
  readonly plan: Plan | null;
  /** Desired properties of the first level that the plan gave as a whole. */
  readonly whole: readonly string[];
  /** Everything that was set, with what was kept of layers that target the twin no more. */
  readonly owned: readonly Owned[];
  readonly kept: readonly Owned[];
  readonly section: Section | null;
};

export function createOwnership(
  twins: Twins,
  configurations: Configurations,
  options: OwnershipOptions,
): Ownership {
  const memories = new Map<TwinKey, Memory>();
  const changes = createListeners();

  twins.onWrite((write) => {
    if (write.twin === null) forget(write.key);
  });

  function forget(key: TwinKey): void {
    if (memories.delete(key)) changes.notify(key);
  }

  function assign(key: TwinKey, plan: Plan, untargeted: OwnershipOptions["untargetedLayer"]): number {
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

  return {
    assign,
    assignEdge: (key, plan, owned) => {
      if (owned) return assign(key, plan, options.untargetedLayer);
      forget(key);
      twins.setConfigurations(key, plan.status);
      return 0;
    },
    pushAgain: (key) => {
      const memory = memories.get(key);
      if (memory === undefined || (memory.whole.length === 0 && memory.owned.length === 0)) return 0;
      const written = twins.patch(key, { tags: null, desired: NOTHING }, null);
      if (!written.ok) return 0;
      memories.set(key, { ...memory, section: written.value.desired });
      return 1;
    },
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
