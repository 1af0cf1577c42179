import { isIP } from "node:net";
import { withoutPort } from "../../base/server-names.ts";
import { type HttpRequest, headerOf } from "./http-message.ts";

/** Where the simulator is. */
export type Place = { readonly address: string; readonly hostName: string };

/**
 * Why a request that needs no key is refused all the same, or `null`. A page from elsewhere that a browser shows must
 * not act on a simulator of the same machine: neither by a request across origins (`Origin`), nor by a name of its own
 * that it has pointed at this machine (`Host`; DNS rebinding). Programs send no `Origin` and name a host that is ours.
 */
export function originProblem(request: Pick<HttpRequest, "headers">, place: Place): string | null {
  const host = headerOf(request, "host");
  const origin = headerOf(request, "origin");
  if (origin !== undefined && origin !== `https://${host ?? ""}`)
    return `pages of ${origin} may not call this: it answers to its own page and to programs`;
  // A simulator that serves a network has names that are not known here.
  if (host === undefined || !isLoopback(place.address)) return null;
  const name = withoutPort(host);
  if (name === "localhost" || name === place.hostName.toLowerCase() || isIP(name) !== 0) return null;
  return `${name} is not a name of this simulator: use ${place.hostName}, localhost or ${place.address}`;
}

/** Addresses of this machine alone; a name is one if it says so. */
function isLoopback(address: string): boolean {
  return address === "localhost" || address === "::1" || (isIP(address) === 4 && address.startsWith("127."));
}
