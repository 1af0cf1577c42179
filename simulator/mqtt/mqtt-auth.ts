import { withoutPort } from "../base/server-names.ts";
import type { Hub } from "../hub/hub.ts";
import type { Identity } from "../hub/registry/identity.ts";
import { decoded, fieldsOf, isSigned } from "../hub/sas.ts";
import { commonNamesOf, type DeviceAuthority, leadsTo, type PeerCertificate } from "./device-certificates.ts";
import type { Who } from "./mqtt-topics.ts";

/** What a client brought to its CONNECT. */
export type Credentials = {
  readonly clientId: string;
  readonly username: string;
  /** `null`: none was sent. */
  readonly password: string | null;
  /** The certificate that the client holds the key of; asked for only where there is no password. */
  readonly certificate: () => PeerCertificate | null;
};

/** What a client proved itself with: enough to see later whether that still holds. Times are milliseconds since the epoch. */
export type Proof =
  | { readonly kind: "deviceKey"; readonly key: string; readonly expiresAt: number }
  | { readonly kind: "policy"; readonly policy: string; readonly expiresAt: number }
  | { readonly kind: "certificate"; readonly thumbprint: string }
  | { readonly kind: "authority" };

export type Authentication =
  | { readonly ok: true; readonly who: Who; readonly proof: Proof; readonly modelId: string | null }
  /** CONNACK 2 for a client id that is none, 4 for such a user name, 5 for everything that a client might guess at. */
  | { readonly ok: false; readonly returnCode: 2 | 4 | 5 };

const NOBODY = { ok: false, returnCode: 2 } as const;
const MALFORMED = { ok: false, returnCode: 4 } as const;
const DENIED = { ok: false, returnCode: 5 } as const;
const API_VERSION = /^20[0-9]{2}-[0-9]{2}-[0-9]{2}(-preview)?$/;

/** `now` is the machine's time in milliseconds since the epoch: clients sign with that. */
export function authenticate(
  credentials: Credentials,
  hub: Pick<Hub, "policies" | "registry"> & {
    readonly authorities: readonly DeviceAuthority[];
    /** Names of the hub: its own, and for clients that cannot be configured with a gateway what they dial. */
    readonly names: readonly string[];
  },
  now: number,
): Authentication {
  const who = parseClientId(credentials.clientId);
  if (who === null) return NOBODY;
  const user = parseUsername(credentials.username);
  if (user === null) return MALFORMED;
  if (user.clientId !== credentials.clientId && decoded(user.clientId) !== credentials.clientId)
    return MALFORMED;
  if (!hub.names.includes(withoutPort(user.hostName))) return DENIED;
  const identity = hub.registry.get(who.deviceId, who.moduleId);
  if (identity === undefined || hub.registry.get(who.deviceId, null)?.enabled !== true) return DENIED;
  const proof =
    credentials.password === null || credentials.password === ""
      ? proveByCertificate(identity, credentials.certificate(), { authorities: hub.authorities, now })
      : proveBySignature(credentials.password, { who, identity, hub, now });
  return proof === null ? DENIED : { ok: true, who, proof, modelId: user.modelId };
}

/** Whether what proved a client's identity when it connected would do so today; expiry is not looked at. */
export function stillHolds(proof: Proof, identity: Identity): boolean {
  switch (proof.kind) {
    case "deviceKey":
      return keysOf(identity).includes(proof.key);
    case "certificate":
      return thumbprintsOf(identity).includes(proof.thumbprint);
    case "authority":
      return identity.authentication.type === "certificateAuthority";
    case "policy":
      return true;
  }
}

/** As the hub annotates messages with it. */
export function authMethodOf(proof: Proof, { moduleId }: Who): string {
  const own = moduleId === null ? "device" : "module";
  const byKey = proof.kind === "deviceKey" || proof.kind === "policy";
  const method = {
    scope: proof.kind === "policy" ? "hub" : own,
    type: byKey ? "sas" : "x509Certificate",
    issuer: byKey ? "iothub" : "external",
    acceptingIpFilterRule: null,
  };
  return JSON.stringify(method);
}

function parseClientId(clientId: string): Who | null {
  const [deviceId = "", moduleId, beyond] = clientId.split("/");
  if (deviceId === "" || moduleId === "" || beyond !== undefined) return null;
  return { deviceId, moduleId: moduleId ?? null };
}

/** `<hub>/<client id>/?api-version=…&…`; old clients leave the question mark out. */
function parseUsername(
  username: string,
): { readonly hostName: string; readonly clientId: string; readonly modelId: string | null } | null {
  const [, hostName, clientId, query] = /^([^/]+)\/(.+)\/(?:\?|(?=api-version=))(.*)$/.exec(username) ?? [];
  if (hostName === undefined || clientId === undefined || query === undefined) return null;
  const { "api-version": version, "model-id": modelId } = fieldsOf(query);
  if (version === undefined || !API_VERSION.test(version)) return null;
  return { hostName, clientId, modelId: modelId === undefined ? null : decoded(modelId) };
}

function proveByCertificate(
  identity: Identity,
  certificate: PeerCertificate | null,
  hub: { readonly authorities: readonly DeviceAuthority[]; readonly now: number },
): Proof | null {
  if (certificate === null) return null;
  if (identity.authentication.type === "certificateAuthority") {
    const [own] = certificate.chain;
    const named = own !== undefined && commonNamesOf(own).includes(nameOf(identity));
    return named && leadsTo(hub.authorities, certificate.chain, hub.now) ? { kind: "authority" } : null;
  }
  const known = thumbprintsOf(identity);
  const thumbprint = certificate.thumbprints.map(normalized).find((one) => known.includes(one));
  return thumbprint === undefined ? null : { kind: "certificate", thumbprint };
}

/** What a certificate of an authority must call its holder. */
function nameOf({ deviceId, moduleId }: Identity): string {
  return moduleId === null ? deviceId : `${deviceId}/${moduleId}`;
}

function proveBySignature(
  password: string,
  about: {
    readonly who: Who;
    readonly identity: Identity;
    readonly hub: Pick<Hub, "policies"> & { readonly names: readonly string[] };
    readonly now: number;
  },
): Proof | null {
  const { who, identity, hub, now } = about;
  if (!password.startsWith("SharedAccessSignature ")) return null;
  const { sr = "", sig = "", se = "", skn = "" } = fieldsOf(password.slice("SharedAccessSignature ".length));
  const expiresAt = Number(se) * 1000;
  if (!/^[0-9]{1,12}$/.test(se) || expiresAt <= now) return null;
  // The signature covers the scope as the client wrote it.
  const signedWith = (key: string) =>
    [sr, decoded(sr), encodeURIComponent(decoded(sr))].some((text) => isSigned(key, text, se, decoded(sig)));
  const [hostName = "", ...path] = decoded(sr).split("/").map(decoded);
  if (!hub.names.includes(withoutPort(hostName))) return null;
  const scope = path.join("/");
  const own = resourceOf(who);
  if (skn === "") {
    const key = scope === own ? keysOf(identity).find(signedWith) : undefined;
    return key === undefined ? null : { kind: "deviceKey", key, expiresAt };
  }
  const policy = hub.policies.find((known) => known.name === decoded(skn));
  const covers = scope === "" || own === scope || own.startsWith(`${scope}/`);
  if (policy === undefined || !covers || !policy.rights.includes("DeviceConnect")) return null;
  return signedWith(policy.key) ? { kind: "policy", policy: policy.name, expiresAt } : null;
}

function resourceOf({ deviceId, moduleId }: Who): string {
  return `devices/${deviceId}${moduleId === null ? "" : `/modules/${moduleId}`}`;
}

function keysOf({ authentication }: Identity): readonly string[] {
  if (authentication.type !== "sas") return [];
  const { primaryKey, secondaryKey } = authentication.symmetricKey;
  return [primaryKey, secondaryKey].filter((key) => key !== null);
}

function thumbprintsOf({ authentication }: Identity): readonly string[] {
  if (authentication.type !== "selfSigned") return [];
  const { primaryThumbprint, secondaryThumbprint } = authentication.x509Thumbprint;
  return [primaryThumbprint, secondaryThumbprint]
    .filter((thumbprint) => thumbprint !== null && thumbprint !== "")
    .map((thumbprint) => normalized(thumbprint ?? ""));
}

function normalized(thumbprint: string): string {
  return thumbprint.replaceAll(/[: ]/g, "").toUpperCase();
}
