import { networkInterfaces } from "node:os";

/** An address that stands for all of this machine's. */
export function isEverywhere(address: string): boolean {
  return address === "0.0.0.0" || address === "::";
}

/** What clients may call a server that is at `address`: the certificate is good for all of it, and all of it is the hub. */
export function serverNames(hostName: string, address: string): readonly string[] {
  const addresses = isEverywhere(address)
    ? Object.values(networkInterfaces()).flatMap((list = []) => list.map((one) => one.address))
    : [address];
  const names = [hostName, "localhost", "127.0.0.1", "::1", ...addresses];
  // Addresses of one link end with its name, which no certificate can have.
  return [...new Set(names.map((name) => name.replace(/%.*$/, "").toLowerCase()))];
}

/** Without its port, and without the brackets of IPv6. */
export function withoutPort(host: string): string {
  return host
    .replace(/(?<=\]|^[^:]*):[0-9]*$/, "")
    .replace(/^\[(.*)\]$/, "$1")
    .toLowerCase();
}
