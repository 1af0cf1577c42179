// The library keeps its metadata with Reflect.
import "reflect-metadata";
import { constants, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import type { TlsOptions } from "node:tls";
import {
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

export type ServerCertificate = {
  /** PEM of the authority that clients have to trust. */
  readonly ca: string;
  /** PEM of the server's certificate. */
  readonly certificate: string;
  /** PEM of the server's private key. */
  readonly key: string;
};

/**
 * A server that asks clients for certificates and accepts those without: what a certificate is worth is for
 * the hub to say. Without tickets, because a session that is resumed by one has lost the issuers that the client sent.
 */
export function askingForCertificates({ key, certificate }: ServerCertificate): TlsOptions {
  return {
    key,
    cert: certificate,
    requestCert: true,
    rejectUnauthorized: false,
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY = 86_400_000;

const AUTHORITY_NAME = "CN=IoT Hub simulator authority";

/** Who signs the certificates of a simulator: it may outlive many of them, so it is good for ten years. */
export type Authority = {
  /** PEM of its certificate. */
  readonly ca: string;
  /** PEM of its private key. */
  readonly key: string;
};

export async function createAuthority(): Promise<Authority> {
  cryptoProvider.set(webcrypto);
  const authority = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const ca = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: AUTHORITY_NAME,
    notBefore: new Date(Date.now() - DAY),
    notAfter: new Date(Date.now() + 3650 * DAY),
    signingAlgorithm: ALGORITHM,
    keys: authority,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
    ],
  });
  return { ca: ca.toString("pem"), key: await pemOf(authority.privateKey) };
}

/** A certificate for these names and addresses; good for a year. */
export async function createServerCertificate(
  names: readonly string[],
  authority: Authority,
): Promise<ServerCertificate> {
  cryptoProvider.set(webcrypto);
  const signingKey = await webcrypto.subtle.importKey(
    "pkcs8",
    PemConverter.decodeFirst(authority.key),
    ALGORITHM,
    false,
    ["sign"],
  );
  const server = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: "CN=IoT Hub simulator",
    issuer: AUTHORITY_NAME,
    notBefore: new Date(Date.now() - DAY),
    notAfter: new Date(Date.now() + 365 * DAY),
    signingAlgorithm: ALGORITHM,
    publicKey: server.publicKey,
    signingKey,
    extensions: [
      new BasicConstraintsExtension(false),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      new SubjectAlternativeNameExtension(
        names.map((value) => ({ type: isIP(value) === 0 ? ("dns" as const) : ("ip" as const), value })),
      ),
    ],
  });
  return {
    ca: authority.ca,
    certificate: certificate.toString("pem"),
    key: await pemOf(server.privateKey),
  };
}

async function pemOf(key: webcrypto.CryptoKey): Promise<string> {
  return PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}

/** Sixteen random bytes whose first bit is clear, as DER wants positive numbers. */
function serialNumber(): string {
  const bytes = Buffer.from(webcrypto.getRandomValues(new Uint8Array(16)));
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x01;
  return bytes.toString("hex");
}
