import { isObject, type JsonObject, type JsonValue } from "../../base/json.ts";
import { type Answer, ok, refuse } from "../errors.ts";

export type AuthenticationType = "sas" | "selfSigned" | "certificateAuthority" | "none";

export type Authentication = {
  readonly type: AuthenticationType;
  readonly symmetricKey: { readonly primaryKey: string | null; readonly secondaryKey: string | null };
  readonly x509Thumbprint: {
    readonly primaryThumbprint: string | null;
    readonly secondaryThumbprint: string | null;
  };
};

/** A device (`moduleId: null`) or a module of one. Never changed in place. */
export type Identity = {
  readonly deviceId: string;
  readonly moduleId: string | null;
  readonly generationId: string;
  readonly etag: string;
  readonly enabled: boolean;
  readonly statusReason: string | null;
  readonly statusUpdatedTime: string;
  readonly authentication: Authentication;
  readonly iotEdge: boolean;
  readonly deviceScope: string | null;
  readonly parentScopes: readonly string[];
  readonly managedBy: string | null;
};

/** What a client may say about an identity. */
export type IdentityDraft = Pick<
  Identity,
  "enabled" | "statusReason" | "authentication" | "iotEdge" | "deviceScope" | "parentScopes" | "managedBy"
>;

/** Times that never happened. */
export const NEVER = "0001-01-01T00:00:00Z";

const ID_PATTERN = /^[A-Za-z0-9\-.%_*?!(),:=@$']{1,128}$/;
const TYPES: readonly AuthenticationType[] = ["sas", "selfSigned", "certificateAuthority", "none"];
const NO_KEYS = { primaryKey: null, secondaryKey: null };
const NO_THUMBPRINTS = { primaryThumbprint: null, secondaryThumbprint: null };

export function checkId(id: string, what: "deviceId" | "moduleId"): Answer<void> {
  if (ID_PATTERN.test(id)) return ok(undefined);
  return refuse(
    "ArgumentInvalid",
    `${what} ${JSON.stringify(id)} must have 1 to 128 characters of A-Z a-z 0-9 - . % _ * ? ! ( ) , : = @ $ '`,
  );
}

/** Keys that are missing or empty come from `makeKey`: writing back a half-read identity locks its device out. */
export function parseDraft(body: JsonObject, makeKey: () => string): Answer<IdentityDraft> {
  const written = body["status"] ?? "enabled";
  // The SDK of Java says "Enabled": the hub compares enumerations without regard to case.
  const status = typeof written === "string" ? written.toLowerCase() : written;
  if (status !== "enabled" && status !== "disabled")
    return refuse("ArgumentInvalid", "status must be enabled or disabled");
  const statusReason = body["statusReason"] ?? null;
  if (statusReason !== null && (typeof statusReason !== "string" || statusReason.length > 128))
    return refuse("ArgumentInvalid", "statusReason must be text of at most 128 characters");
  const authentication = parseAuthentication(body["authentication"], makeKey);
  if (!authentication.ok) return authentication;
  const capabilities = body["capabilities"];
  const parentScopes = body["parentScopes"];
  return ok({
    enabled: status === "enabled",
    statusReason,
    authentication: authentication.value,
    iotEdge: isObject(capabilities) && capabilities["iotEdge"] === true,
    deviceScope: textOrNull(body["deviceScope"]),
    parentScopes: Array.isArray(parentScopes)
      ? parentScopes.filter((scope) => typeof scope === "string")
      : [],
    managedBy: textOrNull(body["managedBy"]),
  });
}

function parseAuthentication(written: JsonValue | undefined, makeKey: () => string): Answer<Authentication> {
  const given = isObject(written) ? written : {};
  const type = TYPES.find((known) => known === (given["type"] ?? "sas"));
  if (type === undefined)
    return refuse("ArgumentInvalid", `authentication.type must be one of ${TYPES.join(", ")}`);
  if (type !== "sas")
    return ok({
      type,
      symmetricKey: NO_KEYS,
      x509Thumbprint: type === "selfSigned" ? thumbprintsOf(given["x509Thumbprint"]) : NO_THUMBPRINTS,
    });
  const keys = isObject(given["symmetricKey"]) ? given["symmetricKey"] : {};
  const primaryKey = textOrNull(keys["primaryKey"]) || makeKey();
  const secondaryKey = textOrNull(keys["secondaryKey"]) || makeKey();
  for (const key of [primaryKey, secondaryKey])
    if (!isKey(key)) return refuse("ArgumentInvalid", "a symmetric key must be base64 of 16 to 64 bytes");
  return ok({ type, symmetricKey: { primaryKey, secondaryKey }, x509Thumbprint: NO_THUMBPRINTS });
}

function isKey(written: string): boolean {
  const bytes = Buffer.from(written, "base64");
  return bytes.toString("base64") === written && bytes.length >= 16 && bytes.length <= 64;
}

function thumbprintsOf(written: JsonValue | undefined): Authentication["x509Thumbprint"] {
  const given = isObject(written) ? written : {};
  return {
    primaryThumbprint: textOrNull(given["primaryThumbprint"]),
    secondaryThumbprint: textOrNull(given["secondaryThumbprint"]),
  };
}

function textOrNull(value: JsonValue | undefined): string | null {
  return typeof value === "string" ? value : null;
}
