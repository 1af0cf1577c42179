import { type JsonObject, type JsonValue, valueAt } from "../../base/json.ts";
import { type Identity, NEVER } from "../registry/identity.ts";
import { type Section, type Twin, twinEtag } from "../twins/twin.ts";
import type { Row } from "./expression.ts";

/** What the hub believes about a connection: late and unreliable, as on the real one. */
export type Activity = {
  readonly connectionState: "Connected" | "Disconnected";
  readonly connectionStateUpdatedTime: string;
  readonly lastActivityTime: string;
  readonly cloudToDeviceMessageCount: number;
};

export const NO_ACTIVITY: Activity = {
  connectionState: "Disconnected",
  connectionStateUpdatedTime: NEVER,
  lastActivityTime: NEVER,
  cloudToDeviceMessageCount: 0,
};

/** An identity as the registry answers with it, keys included. */
export function identityDocument(identity: Identity, activity: Activity): JsonObject {
  const { deviceId, moduleId, generationId, etag, authentication } = identity;
  const { connectionState, connectionStateUpdatedTime, lastActivityTime, cloudToDeviceMessageCount } =
    activity;
  const shared = {
    generationId,
    etag,
    connectionState,
    connectionStateUpdatedTime,
    lastActivityTime,
    cloudToDeviceMessageCount,
    authentication,
  };
  if (moduleId !== null) return { deviceId, moduleId, managedBy: identity.managedBy, ...shared };
  return {
    deviceId,
    ...shared,
    status: identity.enabled ? "enabled" : "disabled",
    statusReason: identity.statusReason,
    statusUpdatedTime: identity.statusUpdatedTime,
    capabilities: { iotEdge: identity.iotEdge },
    ...(identity.deviceScope === null ? {} : { deviceScope: identity.deviceScope }),
    ...(identity.parentScopes.length === 0 ? {} : { parentScopes: identity.parentScopes }),
  };
}

/** Attributes at the root of a twin: queries may write them in any case, and are answered in this one. */
export const TWIN_ATTRIBUTES = [
  "deviceId",
  "moduleId",
  "etag",
  "deviceEtag",
  "status",
  "statusReason",
  "statusUpdateTime",
  "connectionState",
  "lastActivityTime",
  "cloudToDeviceMessageCount",
  "authenticationType",
  "x509Thumbprint",
  "modelId",
  "version",
  "tags",
  "properties",
  "configurations",
  "capabilities",
  "deviceScope",
  "parentScopes",
] as const;

/** A whole twin as GET and `SELECT *` answer with it. */
export function twinDocument(identity: Identity, twin: Twin, activity: Activity): JsonObject {
  const document: Record<string, JsonValue> = {};
  for (const name of TWIN_ATTRIBUTES) {
    const value = attributeOf(name, identity, twin, activity);
    if (value !== undefined) document[name] = value;
  }
  return document;
}

/** A twin for expressions: nothing is built that is not looked at. */
export function twinRow(identity: Identity, twin: Twin, activity: () => Activity): Row {
  return {
    valueAt: (path) => {
      const [root, second] = path;
      if (root === "tags") return path.length === 1 ? tagsOf(twin) : valueAt(twin.tags, path.slice(1));
      if (root === "properties" && (second === "desired" || second === "reported"))
        return sectionValue(twin[second], path);
      if (root === undefined) return undefined;
      const needsActivity =
        root === "connectionState" || root === "lastActivityTime" || root === "cloudToDeviceMessageCount";
      return valueAt(
        attributeOf(root, identity, twin, needsActivity ? activity() : NO_ACTIVITY),
        path.slice(1),
      );
    },
  };
}

function sectionValue(section: Section, path: readonly string[]): JsonValue | undefined {
  if (path.length === 2) return sectionDocument(section);
  if (path[2] === "$version") return section.version;
  if (path[2] === "$metadata") return valueAt(section.metadata, path.slice(3));
  return valueAt(section.value, path.slice(2));
}

function sectionDocument(section: Section): JsonObject {
  return { ...section.value, $metadata: section.metadata, $version: section.version };
}

function tagsOf(twin: Twin): JsonObject | undefined {
  return Object.keys(twin.tags).length === 0 ? undefined : twin.tags;
}

function attributeOf(
  name: string,
  identity: Identity,
  twin: Twin,
  activity: Activity,
): JsonValue | undefined {
  const isDevice = identity.moduleId === null;
  switch (name) {
    case "deviceId":
      return identity.deviceId;
    case "moduleId":
      return identity.moduleId ?? undefined;
    case "etag":
      return twinEtag(twin);
    case "deviceEtag":
      return identity.etag;
    case "version":
      return twin.version;
    case "status":
      return identity.enabled ? "enabled" : "disabled";
    case "statusReason":
      return identity.statusReason ?? undefined;
    case "statusUpdateTime":
      return identity.statusUpdatedTime;
    case "connectionState":
      return activity.connectionState;
    case "lastActivityTime":
      return activity.lastActivityTime;
    case "cloudToDeviceMessageCount":
      return activity.cloudToDeviceMessageCount;
    case "authenticationType":
      return identity.authentication.type;
    case "x509Thumbprint":
      return identity.authentication.x509Thumbprint;
    case "modelId":
      return "";
    case "tags":
      return tagsOf(twin);
    case "properties":
      return { desired: sectionDocument(twin.desired), reported: sectionDocument(twin.reported) };
    case "configurations":
      return Object.keys(twin.configurations).length === 0 ? undefined : twin.configurations;
    case "capabilities":
      return isDevice ? { iotEdge: identity.iotEdge } : undefined;
    case "deviceScope":
      return isDevice ? (identity.deviceScope ?? undefined) : undefined;
    case "parentScopes":
      return isDevice && identity.parentScopes.length > 0 ? identity.parentScopes : undefined;
    default:
      return undefined;
  }
}
