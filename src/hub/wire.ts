import { isRecord } from "../base/guards.ts";
import type { Intern } from "../base/intern.ts";
import type {
  Configuration,
  DeviceRow,
  Identity,
  IdentityKeys,
  Json,
  ModuleRow,
  NewConfiguration,
  SlotState,
  Twin,
  TwinRef,
} from "./hub.ts";
import { pointerOf, reportOf } from "./reports.ts";

// Documents of the hub's service API as they are on the wire, read into the types of the port. Every reader answers
// `null` for a document that is not whole: a proxy's page or an empty object must never pass for a fact.

/** The hub keeps 128 characters of free text with an identity; a uid has 36. */
const MADE_FOR = /^edgefleet: created for (\S+)$/;

export function identityOf(body: unknown, device: string): Identity | null {
  if (!isRecord(body) || body["deviceId"] !== device) return null;
  const { generationId, etag, status, statusReason, authentication, capabilities } = body;
  if (typeof generationId !== "string" || typeof etag !== "string") return null;
  if (status !== "enabled" && status !== "disabled") return null;
  const type = isRecord(authentication) ? authentication["type"] : undefined;
  return {
    device,
    generationId,
    etag,
    enabled: status === "enabled",
    iotEdge: isRecord(capabilities) && capabilities["iotEdge"] === true,
    authentication: typeof type === "string" ? type : "none",
    madeFor: typeof statusReason === "string" ? (MADE_FOR.exec(statusReason)?.[1] ?? null) : null,
  };
}

/** `null`: the identity has no symmetric keys, or the credential may not read them. */
export function keysOf(body: unknown): IdentityKeys | null {
  if (!isRecord(body) || !isRecord(body["authentication"])) return null;
  const { type, symmetricKey } = body["authentication"];
  if (type !== "sas" || !isRecord(symmetricKey)) return null;
  const { primaryKey, secondaryKey } = symmetricKey;
  if (typeof primaryKey !== "string" || typeof secondaryKey !== "string") return null;
  return primaryKey === "" || secondaryKey === "" ? null : { primaryKey, secondaryKey };
}

/** A new identity whose keys the hub makes: that is what empty keys mean to it, and why no other write may carry them. */
export function newIdentityBody(identity: {
  readonly device: string;
  readonly iotEdge: boolean;
  readonly enabled: boolean;
  readonly madeFor?: string;
}): Json {
  return {
    ...(identity.madeFor === undefined ? {} : { statusReason: `edgefleet: created for ${identity.madeFor}` }),
    deviceId: identity.device,
    status: identity.enabled ? "enabled" : "disabled",
    capabilities: { iotEdge: identity.iotEdge },
    authentication: { type: "sas", symmetricKey: { primaryKey: "", secondaryKey: "" } },
  };
}

/** Without `$metadata` and `$version`, which are the hub's own and twice the size of the rest. */
export function twinOf(body: unknown, ref: TwinRef): Twin | null {
  if (!isRecord(body) || body["deviceId"] !== ref.device) return null;
  if (ref.module !== null && body["moduleId"] !== ref.module) return null;
  const { etag, version, tags = {}, properties } = body;
  if (typeof etag !== "string" || typeof version !== "number" || !isRecord(tags) || !isRecord(properties))
    return null;
  const { desired = {}, reported = {} } = properties;
  if (!isRecord(desired) || !isRecord(reported)) return null;
  return {
    device: ref.device,
    module: ref.module,
    etag,
    version,
    tags,
    desired: withoutSystem(desired),
    reported: withoutSystem(reported),
  };
}

/**
 * A configuration for module twins (`moduleContent`) is not of ours and reads as kind `device`: it takes room and a
 * priority like any other.
 */
export function configurationOf(body: unknown): Configuration | null {
  if (!isRecord(body)) return null;
  const { id, etag, content, labels, priority, targetCondition } = body;
  if (typeof id !== "string" || typeof etag !== "string") return null;
  const inner = isRecord(content) ? content : {};
  const { modulesContent, deviceContent, moduleContent } = inner;
  const edge = isRecord(modulesContent) && Object.keys(modulesContent).length > 0;
  const given = [modulesContent, deviceContent, moduleContent].find(
    (one) => isRecord(one) && Object.keys(one).length > 0,
  );
  return {
    id,
    kind: edge ? "edge" : "device",
    labels: isRecord(labels) ? stringsIn(labels) : {},
    priority: typeof priority === "number" ? priority : 0,
    targetCondition: typeof targetCondition === "string" ? targetCondition : "",
    content: isRecord(given) ? given : {},
    etag,
  };
}

export function configurationBody(configuration: NewConfiguration & { readonly etag?: string }): Json {
  const { id, kind, labels, priority, targetCondition, content, etag } = configuration;
  return {
    id,
    schemaVersion: "1.0",
    labels,
    priority,
    targetCondition,
    content: kind === "edge" ? { modulesContent: content } : { deviceContent: content },
    ...(etag === undefined ? {} : { etag }),
  };
}

const MODEL_COLUMNS =
  "properties.desired.model.deployment AS deployment, properties.desired.model.release AS release, " +
  "properties.desired.model.digest AS digest, properties.reported.inference AS report";

export const DEVICES_QUERY =
  "SELECT deviceId AS device, etag AS etag, version AS version, status AS status, " +
  `capabilities.iotEdge AS iotEdge, deviceEtag AS identityEtag, tags AS tags, ${MODEL_COLUMNS} ` +
  "FROM devices WHERE tags.edgefleet.managed = true";

export const MODULES_QUERY =
  `SELECT deviceId AS device, moduleId AS module, etag AS etag, version AS version, ${MODEL_COLUMNS} ` +
  "FROM devices.modules WHERE IS_DEFINED(properties.desired.model) OR IS_DEFINED(properties.reported.inference)";

export function deviceRowOf(row: unknown, intern: Intern): DeviceRow | null {
  if (!isRecord(row)) return null;
  const { device, etag, version, status, iotEdge, identityEtag, tags } = row;
  if (
    typeof device !== "string" ||
    typeof etag !== "string" ||
    typeof version !== "number" ||
    !isRecord(tags)
  )
    return null;
  return {
    device,
    etag,
    version,
    enabled: status !== "disabled",
    iotEdge: iotEdge === true,
    identityEtag: typeof identityEtag === "string" ? identityEtag : null,
    tags,
    slot: slotStateOf(row, etag, intern),
  };
}

export function moduleRowOf(row: unknown, intern: Intern): ModuleRow | null {
  if (!isRecord(row)) return null;
  const { device, module, etag, version } = row;
  if (typeof device !== "string" || typeof module !== "string" || typeof etag !== "string") return null;
  return {
    device,
    module: intern(module),
    slot: slotStateOf(row, etag, intern),
    ...(typeof version === "number" ? { version } : {}),
  };
}

function slotStateOf(row: Json, etag: string, intern: Intern): SlotState {
  return { etag, pointer: pointerOf(row, intern), report: reportOf(row["report"], intern) };
}

function withoutSystem(properties: Json): Json {
  const { $metadata: _metadata, $version: _version, ...rest } = properties;
  return rest;
}

function stringsIn(object: Json): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(object).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}
