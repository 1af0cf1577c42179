import { createHmac, timingSafeEqual } from "node:crypto";
import { seededKey } from "../base/random.ts";
import { type Answer, ok, refuse } from "./errors.ts";

export type Right = "RegistryRead" | "RegistryWrite" | "ServiceConnect" | "DeviceConnect";

export type Policy = { readonly name: string; readonly key: string; readonly rights: readonly Right[] };

/** The policies every hub is born with. Their keys depend on the seed, so that a restart keeps connection strings. */
export function defaultPolicies(seed: number): readonly Policy[] {
  const policy = (name: string, rights: readonly Right[]): Policy => ({
    name,
    rights,
    key: seededKey(seed, `policy/${name}`),
  });
  return [
    policy("iothubowner", ["RegistryRead", "RegistryWrite", "ServiceConnect", "DeviceConnect"]),
    policy("service", ["ServiceConnect"]),
    policy("device", ["DeviceConnect"]),
    policy("registryRead", ["RegistryRead"]),
    policy("registryReadWrite", ["RegistryRead", "RegistryWrite"]),
  ];
}

export function connectionStringOf(hostName: string, policy: Policy): string {
  return `HostName=${hostName};SharedAccessKeyName=${policy.name};SharedAccessKey=${policy.key}`;
}

const DENIED = "Access to the hub was denied: ";

/**
 * Checks the Authorization header of a service request. Shared access signatures must name this hub, be signed with
 * the policy's key, not be expired at `now` (milliseconds since the epoch, of the machine: clients sign with real
 * time) and carry the right. A bearer token is taken for an administrator's as long as it does not say it has expired.
 */
export function authorize(
  header: string | undefined,
  wanted: Right,
  hub: { readonly hostName: string; readonly policies: readonly Policy[] },
  now: number,
): Answer<void> {
  if (header === undefined) return refuse("IotHubUnauthorized", `${DENIED}there is no Authorization header`);
  if (/^bearer /i.test(header)) return checkBearer(header.slice("bearer ".length).trim(), now);
  if (!header.startsWith("SharedAccessSignature "))
    return refuse("IotHubUnauthorized", `${DENIED}neither a shared access signature nor a bearer token`);
  const fields = fieldsOf(header.slice("SharedAccessSignature ".length));
  const { sr = "", sig = "", se = "", skn = "" } = fields;
  const policy = hub.policies.find((known) => known.name === skn);
  if (policy === undefined) return refuse("IotHubUnauthorized", `${DENIED}no such policy`);
  if (decoded(sr).toLowerCase().split("/")[0] !== hub.hostName.toLowerCase())
    return refuse("IotHubUnauthorized", `${DENIED}the token is for another hub`);
  if (!/^[0-9]+$/.test(se) || Number(se) * 1000 <= now)
    return refuse("IotHubUnauthorized", `${DENIED}the token has expired`);
  if (
    ![sr, decoded(sr), encodeURIComponent(decoded(sr))].some((scope) =>
      isSigned(policy.key, scope, se, decoded(sig)),
    )
  )
    return refuse("IotHubUnauthorized", `${DENIED}the signature is wrong`);
  if (!policy.rights.includes(wanted))
    return refuse("IotHubUnauthorized", `${DENIED}policy ${policy.name} lacks ${wanted}`);
  return ok(undefined);
}

/** The parameters of a shared access signature, as they were written. */
export function fieldsOf(text: string): Readonly<Record<string, string>> {
  return Object.fromEntries(
    text.split("&").map((pair) => {
      const at = pair.indexOf("=");
      return at < 0 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

/** Some clients encode the scope and some do not; both are as they should be. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function isSigned(key: string, scope: string, expiry: string, signature: string): boolean {
  const wanted = createHmac("sha256", Buffer.from(key, "base64")).update(`${scope}\n${expiry}`).digest();
  const given = Buffer.from(signature, "base64");
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

function checkBearer(token: string, now: number): Answer<void> {
  if (token === "") return refuse("IotHubUnauthorized", `${DENIED}the bearer token is empty`);
  const expiry = expiryOf(token);
  if (expiry !== null && expiry * 1000 <= now)
    return refuse("IotHubUnauthorized", `${DENIED}the bearer token has expired`);
  return ok(undefined);
}

/** `exp` of a JSON web token; `null` for tokens of another make. */
function expiryOf(token: string): number | null {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
    if (claims !== null && typeof claims === "object" && "exp" in claims && typeof claims.exp === "number")
      return claims.exp;
  } catch {
    // Not a JSON web token.
  }
  return null;
}
