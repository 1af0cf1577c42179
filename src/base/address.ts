import { err, ok, type Result } from "./result.ts";

/** Where to listen or to dial. An empty host is all addresses of this machine, IPv6 and IPv4. */
export type Address = { readonly host: string; readonly port: number };

const HIGHEST_PORT = 65_535;

/** `host:port`, `[IPv6]:port`, or `:port` for all addresses; the host comes without brackets. */
export function parseAddress(written: string): Result<Address, string> {
  const [, bracketed, name, port] =
    /^(?:\[([0-9a-fA-F]*:[0-9a-fA-F:.]+)\]|([^:/\s[\]]*)):(\d{1,5})$/.exec(written) ?? [];
  if (port === undefined || Number(port) > HIGHEST_PORT)
    return err(`"${written}" is not host:port; write it like 127.0.0.1:8080, [::1]:8080 or :8080`);
  return ok({ host: bracketed ?? name ?? "", port: Number(port) });
}

/** In the form that `parseAddress` reads. */
export function formatAddress({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
