import { CONTRACT, type ModelPointer } from "../../api/device-contract.ts";
import type { InferenceDeployment } from "../../api/inference-deployment.ts";
import { qualifiedName } from "../../api/membership.ts";
import type { ModelRelease, Variant } from "../../api/model-release.ts";
import { canonicalJson, shortHash } from "../../base/digest.ts";
import { isRecord } from "../../base/guards.ts";
import { own, setOwn } from "../../base/lookup.ts";
import type { Configuration, ConfigurationKind, PointerRow } from "../../hub/hub.ts";
import type { Track } from "../seen.ts";
import { BANDS } from "./priority.ts";

// What a configuration contains, and what it is called.

type Json = Readonly<Record<string, unknown>>;

/** Keys of the labels that our configurations carry. Values are strings. */
export const LABEL = {
  owner: "edgefleet-owner",
  namespace: "edgefleet-namespace",
  name: "edgefleet-name",
  track: "edgefleet-track",
  release: "edgefleet-release",
  variant: "edgefleet-variant",
  kind: "edgefleet-kind",
  generation: "edgefleet-generation",
  contentHash: "edgefleet-content",
  /** Seconds since the epoch. */
  urlExpires: "edgefleet-url-expires",
  /** Newest entry of the history of the state that wrote it last, in milliseconds: it distinguishes an old status from a new one. */
  stateAt: "edgefleet-state-at",
  /** On the base deployment only: it belongs to all. */
  base: "edgefleet-base",
  /** Id of the cluster whose operator made it: two clusters may share a hub. */
  cluster: "edgefleet-cluster",
} as const;

/** `desired.model` up to what only acting finds out: where the file is, and how large. */
export type PointerDraft = Omit<ModelPointer, "url" | "sizeBytes">;

/** A pointer for the devices of one variant. */
export function pointerDraft(
  deployment: Pick<InferenceDeployment, "namespace" | "name">,
  release: ModelRelease,
  variant: Variant,
): PointerDraft {
  return {
    contract: CONTRACT,
    deployment: qualifiedName(deployment),
    release: qualifiedName(release),
    name: release.spec.model,
    version: release.spec.version,
    variant: variant.name,
    digest: variant.digest,
    executionProvider: variant.executionProvider ?? "cpu",
    config: release.spec.runtimeConfig ?? {},
  };
}

/** What devices get: a layer over the base deployment, or a configuration of the device's own twin. */
export function contentOf(
  kind: ConfigurationKind,
  module: InferenceDeployment["spec"]["module"],
  pointer: PointerDraft | ModelPointer,
): Json {
  if (kind === "device") return { "properties.desired.model": pointer };
  const container =
    module.image === undefined
      ? {}
      : {
          [`properties.desired.modules.${module.name}`]: {
            type: "docker",
            status: "running",
            restartPolicy: "always",
            version: "1.0",
            settings: { image: module.image, createOptions: "{}" },
          },
        };
  return { $edgeAgent: container, [module.name]: { "properties.desired.model": pointer } };
}

/** Identity of what devices get: without the URL, which changes, and the size, which the digest decides. */
export function contentHash(
  kind: ConfigurationKind,
  module: InferenceDeployment["spec"]["module"],
  draft: PointerDraft,
): string {
  return shortHash(canonicalJson(contentOf(kind, module, draft)), 16);
}

/** The pointer that a configuration sets; `null` where it sets none that can be read. */
export function pointerIn(
  configuration: Pick<Configuration, "kind" | "content">,
  module: string,
): ModelPointer | null {
  const { content, kind } = configuration;
  const section = kind === "device" ? content : record(own(content, module));
  const pointer = record(section["properties.desired.model"]);
  const whole =
    typeof pointer["release"] === "string" &&
    typeof pointer["digest"] === "string" &&
    typeof pointer["url"] === "string" &&
    typeof pointer["deployment"] === "string";
  return whole ? (pointer as ModelPointer) : null;
}

/** Whether a configuration of the hub, of any owner, brings a module to devices. */
export function bringsModule(
  { kind, content }: Pick<Configuration, "kind" | "content">,
  module: string,
): boolean {
  if (kind !== "edge") return false;
  const agent = record(content["$edgeAgent"]);
  const layered = own(agent, `properties.desired.modules.${module}`);
  const whole = own(record(record(agent["properties.desired"])["modules"]), module);
  return layered !== undefined || whole !== undefined;
}

/** What a twin's `desired` says about the model. */
export function pointedIn(desired: Json): PointerRow | null {
  const { deployment, release, digest } = record(desired["model"]) as Partial<PointerRow>;
  if (typeof deployment !== "string" || typeof release !== "string" || typeof digest !== "string")
    return null;
  return { deployment, release, digest };
}

/**
 * The merge patch that makes `current` exactly `wanted`: a patch alone would leave keys behind that `wanted` has not.
 * `undefined`: nothing differs.
 */
export function exactPatch(current: unknown, wanted: unknown): unknown {
  if (!isRecord(wanted) || !isRecord(current)) {
    return canonicalJson(current ?? null) === canonicalJson(wanted ?? null) ? undefined : wanted;
  }
  const patch: Record<string, unknown> = {};
  for (const key of Object.keys(current)) if (!Object.hasOwn(wanted, key)) setOwn(patch, key, null);
  for (const [key, value] of Object.entries(wanted)) {
    const inner = exactPatch(own(current, key), value);
    if (inner !== undefined) setOwn(patch, key, inner);
  }
  return Object.keys(patch).length === 0 ? undefined : patch;
}

/** An id in the hub's alphabet and length (128). The hash makes it unique, the rest makes it readable. */
export function configurationId(
  deployment: Pick<InferenceDeployment, "namespace" | "name">,
  variant: string,
  track: Track,
  identity: string,
): string {
  const hash = shortHash(`${qualifiedName(deployment)}/${variant}/${track}/${identity}`, 12);
  const words = `ef-${deployment.namespace}-${deployment.name}-${variant}-${track}`
    .toLowerCase()
    .replace(/[^a-z0-9+%_*!'-]/g, "_");
  return `${words.slice(0, 128 - 1 - hash.length)}-${hash}`;
}

const SYSTEM_MODULES = {
  edgeAgent: {
    type: "docker",
    settings: { image: "mcr.microsoft.com/azureiotedge-agent:1.5", createOptions: "{}" },
  },
  edgeHub: {
    type: "docker",
    status: "running",
    restartPolicy: "always",
    settings: { image: "mcr.microsoft.com/azureiotedge-hub:1.5", createOptions: "{}" },
  },
} as const;

/** The deployment below all layers: without one a layer does nothing. */
export const BASE_CONTENT: Json = {
  $edgeAgent: {
    "properties.desired": {
      schemaVersion: "1.1",
      runtime: { type: "docker", settings: { minDockerVersion: "v1.25", loggingOptions: "" } },
      systemModules: SYSTEM_MODULES,
      modules: {},
    },
  },
  $edgeHub: {
    "properties.desired": {
      schemaVersion: "1.1",
      routes: {},
      storeAndForwardConfiguration: { timeToLiveSecs: 7200 },
    },
  },
};
export const BASE_ID = `ef-base-${shortHash(canonicalJson(BASE_CONTENT), 12)}`;
export const BASE_CONDITION = "tags.edgefleet.managed = true AND tags.edgefleet.iotEdge = true";

/** Whether the operator of another cluster made it. What carries no cluster was made by an older version, and may be ours. */
export function isForeign(configuration: Pick<Configuration, "labels">, clusterId: string): boolean {
  const cluster = configuration.labels[LABEL.cluster];
  return cluster !== undefined && cluster !== clusterId;
}

/** Whether a configuration of the hub was made by this operator. */
export function isOurs(configuration: Configuration): boolean {
  const { labels } = recognized(configuration);
  return labels[LABEL.name] !== undefined || labels[LABEL.base] !== undefined;
}

const OWN_ID = /^ef-.*-[0-9a-f]{12}$/;
const BASE_IDS = /^ef-base-[0-9a-f]{12}$/;

/**
 * The configuration with the labels that it ought to have. Labels can be edited by everyone who may write
 * configurations; id and content of one cannot change. So where the id is of our making, what it contains decides whose
 * it is and which release it gives, and labels add what only they can say.
 */
export function recognized<C extends Configuration>(configuration: C): C {
  const { id, labels } = configuration;
  if (BASE_IDS.test(id)) {
    return labels[LABEL.base] === undefined
      ? { ...configuration, labels: { ...labels, [LABEL.base]: "true" } }
      : configuration;
  }
  const held = OWN_ID.test(id) ? heldBy(configuration) : null;
  const [namespace, name] = split(held?.pointer.deployment ?? "");
  const [, release] = split(held?.pointer.release ?? "");
  if (held === null || namespace === "" || name === "" || release === "") return configuration;
  const sure = {
    [LABEL.namespace]: namespace,
    [LABEL.name]: name,
    [LABEL.track]: trackOf(configuration),
    [LABEL.release]: release,
    [LABEL.variant]: held.pointer.variant,
    [LABEL.kind]: configuration.kind,
  };
  const isLabelled = Object.entries(sure).every(([key, value]) => own(labels, key) === value);
  if (isLabelled && labels[LABEL.contentHash] !== undefined) return configuration;
  return { ...configuration, labels: { [LABEL.contentHash]: held.hash, ...labels, ...sure } };
}

/** By its label, else by its id, else (long names leave no room in an id) by its priority. */
function trackOf({ id, labels, priority }: Configuration): Track {
  const written = labels[LABEL.track] ?? /-(stable|candidate)-[0-9a-f]{12}$/.exec(id)?.[1];
  if (written === "stable" || written === "candidate") return written;
  return priority >= BANDS.candidate.from ? "candidate" : "stable";
}

/** The pointer of whatever module, and the hash that `contentHash` gives for such content. */
function heldBy({
  kind,
  content,
}: Configuration): { readonly pointer: ModelPointer; readonly hash: string } | null {
  const modules = kind === "device" ? [""] : Object.keys(content);
  for (const module of modules) {
    const pointer = pointerIn({ kind, content }, module);
    if (pointer === null || typeof pointer.variant !== "string") continue;
    const { url: _url, sizeBytes: _size, ...draft } = pointer;
    const path = { "properties.desired.model": draft };
    const bare =
      kind === "device"
        ? { ...content, ...path }
        : { ...content, [module]: { ...record(own(content, module)), ...path } };
    return { pointer, hash: shortHash(canonicalJson(bare), 16) };
  }
  return null;
}

/** `<namespace>.<name>`: namespaces have no dots. */
function split(qualified: string): readonly [string, string] {
  const dot = qualified.indexOf(".");
  return dot < 0 ? ["", ""] : [qualified.slice(0, dot), qualified.slice(dot + 1)];
}

function record(value: unknown): Json {
  return isRecord(value) ? value : {};
}
