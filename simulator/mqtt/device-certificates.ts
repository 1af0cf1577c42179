// The library keeps its metadata with Reflect.
import "reflect-metadata";
import { X509Certificate } from "node:crypto";
import type { DetailedPeerCertificate, TLSSocket } from "node:tls";
import { BasicConstraintsExtension, X509Certificate as ParsedCertificate } from "@peculiar/x509";

// Certificates that devices prove themselves with: signed by themselves and known by their thumbprint, or signed by an
// authority that is registered with the hub. TLS has seen by then that the client holds the key.

/** What a client presented: its own certificate first, then those of its issuers that it sent along. */
export type PeerCertificate = {
  /** SHA-1 and SHA-256 of its own, in hexadecimal with colons. */
  readonly thumbprints: readonly string[];
  readonly chain: readonly X509Certificate[];
};

/** An authority that signs certificates of devices. */
export type DeviceAuthority = X509Certificate;

export type ParsedAuthorities =
  | { readonly ok: true; readonly authorities: readonly DeviceAuthority[] }
  | { readonly ok: false; readonly problems: readonly string[] };

/** As many as a hub takes. */
const MOST_AUTHORITIES = 25;
/** Certificates from a device up to its authority. */
const LONGEST_CHAIN = 10;
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
const PEM = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/** Certificates of authorities from PEM texts; each may hold several. */
export function parseAuthorities(texts: readonly string[], now: number): ParsedAuthorities {
  const authorities = new Map<string, DeviceAuthority>();
  const problems: string[] = [];
  for (const text of texts) {
    const blocks = text.match(PEM) ?? [];
    if (blocks.length === 0) problems.push("there is no certificate in PEM form");
    for (const [index, block] of blocks.entries()) {
      const read = readAuthority(block, now);
      if (typeof read === "string") problems.push(`certificate ${index + 1} ${read}`);
      else authorities.set(read.fingerprint256, read);
    }
  }
  if (authorities.size > MOST_AUTHORITIES)
    problems.push(`${authorities.size} certificates of authorities, and a hub takes ${MOST_AUTHORITIES}`);
  if (problems.length > 0) return { ok: false, problems };
  return { ok: true, authorities: [...authorities.values()] };
}

function readAuthority(pem: string, now: number): DeviceAuthority | string {
  try {
    const certificate = new X509Certificate(pem);
    if (!certificate.ca) return "is not an authority's: it needs the basic constraint CA:TRUE";
    return isValidAt(certificate, now)
      ? certificate
      : `is not valid now: only from ${certificate.validFrom} to ${certificate.validTo}`;
  } catch {
    return "cannot be read";
  }
}

/** What the other end of a TLS connection presented; `null`: nothing. */
export function peerCertificateOf(socket: TLSSocket): PeerCertificate | null {
  const chain: X509Certificate[] = [];
  let next: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  while (next?.raw !== undefined && chain.length < LONGEST_CHAIN) {
    chain.push(new X509Certificate(next.raw));
    const issuer: DetailedPeerCertificate | undefined = next.issuerCertificate;
    // One that signed itself is its own issuer.
    next = issuer === next ? undefined : issuer;
  }
  const [own] = chain;
  return own === undefined ? null : { thumbprints: [own.fingerprint, own.fingerprint256], chain };
}

/** The names that a certificate gives its holder. */
export function commonNamesOf(certificate: X509Certificate): readonly string[] {
  const named = (certificate.toLegacyObject().subject as { readonly CN?: string | readonly string[] }).CN;
  return named === undefined ? [] : [named].flat();
}

/** Whether a chain leads to an authority, everything on the way is valid at `now`, and each may sign what it signed. */
export function leadsTo(
  authorities: readonly DeviceAuthority[],
  [own, ...sent]: readonly X509Certificate[],
  now: number,
): boolean {
  if (own === undefined || !isValidAt(own, now)) return false;
  const purposes = own.keyUsage as readonly string[] | undefined;
  if (purposes !== undefined && !purposes.includes(CLIENT_AUTH)) return false;
  let current = own;
  for (let below = 0; below < LONGEST_CHAIN; below++) {
    const authority = authorities.find((candidate) => signed(candidate, current));
    const issuer = authority ?? sent.find((candidate) => candidate !== current && signed(candidate, current));
    if (issuer === undefined || !isValidAt(issuer, now) || mayStandAbove(issuer) < below) return false;
    if (authority !== undefined) return true;
    current = issuer;
  }
  return false;
}

function signed(issuer: X509Certificate, subject: X509Certificate): boolean {
  return issuer.ca && subject.checkIssued(issuer) && subject.verify(issuer.publicKey);
}

function isValidAt(certificate: X509Certificate, now: number): boolean {
  return Date.parse(certificate.validFrom) <= now && now < Date.parse(certificate.validTo);
}

/** How many authorities may stand between this one and a device. */
function mayStandAbove(authority: X509Certificate): number {
  const constraints = new ParsedCertificate(authority.raw).getExtension(BasicConstraintsExtension);
  return constraints?.pathLength ?? Number.POSITIVE_INFINITY;
}
