// The library keeps its metadata with Reflect.
import "reflect-metadata";
import { webcrypto, X509Certificate } from "node:crypto";
import {
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  X509CertificateGenerator,
} from "@peculiar/x509";

/** What a device holds: PEM of its certificate, and of its issuers after it where it sends them along; PEM of its key. */
export type DeviceCertificate = {
  readonly cert: string;
  readonly key: string;
  readonly thumbprint: string;
  readonly keys: webcrypto.CryptoKeyPair;
};

export type Authority = {
  readonly pem: string;
  readonly name: string;
  readonly keys: webcrypto.CryptoKeyPair;
};

type Validity = { readonly from?: number; readonly to?: number };

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const HOUR = 3_600_000;

/** An authority that signed itself, or that `by` signed. */
export async function newAuthority(
  name: string,
  given: Validity & { readonly by?: Authority; readonly pathLength?: number } = {},
): Promise<Authority> {
  const keys = await newKeys();
  const { by = { name: `CN=${name}`, keys }, pathLength } = given;
  const certificate = await X509CertificateGenerator.create({
    subject: `CN=${name}`,
    issuer: by.name,
    ...validity(given),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: by.keys.privateKey,
    extensions: [
      new BasicConstraintsExtension(true, pathLength, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
    ],
  });
  return { pem: certificate.toString("pem"), name: `CN=${name}`, keys };
}

/** A device's certificate, good for a day: self-signed, or signed by `by`; `purposes` are its extended key usages. */
export async function deviceCertificate(
  name: string,
  given: Validity & { readonly by?: Authority; readonly purposes?: readonly string[] } = {},
): Promise<DeviceCertificate> {
  const keys = await newKeys();
  const { by = { name: `CN=${name}`, keys }, purposes } = given;
  const certificate = await X509CertificateGenerator.create({
    subject: `CN=${name}`,
    issuer: by.name,
    ...validity(given),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: by.keys.privateKey,
    extensions: purposes === undefined ? [] : [new ExtendedKeyUsageExtension([...purposes])],
  });
  const cert = certificate.toString("pem");
  const key = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    cert,
    key: PemConverter.encode(key, "PRIVATE KEY"),
    thumbprint: new X509Certificate(cert).fingerprint.replaceAll(":", ""),
    keys,
  };
}

/** With the issuers that a device sends along. */
export function withIssuers(own: DeviceCertificate, ...issuers: readonly Authority[]): DeviceCertificate {
  return { ...own, cert: [own.cert, ...issuers.map(({ pem }) => pem)].join("\n") };
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  cryptoProvider.set(webcrypto);
  return webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
}

function validity({ from = -HOUR, to = 24 * HOUR }: Validity) {
  return { notBefore: new Date(Date.now() + from), notAfter: new Date(Date.now() + to) };
}
