import { createHash } from "node:crypto";
import type { Brand } from "./brand.ts";

/** The identity of bytes: `sha256:` and 64 lower-case hexadecimal digits. */
export type Digest = Brand<string, "Digest">;

export const DIGEST_PATTERN = "^sha256:[0-9a-f]{64}$";

export function digestOf(bytes: Uint8Array | string): Digest {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}` as Digest;
}

/** `null` for text that is no digest. */
export function parseDigest(written: string): Digest | null {
  return new RegExp(DIGEST_PATTERN).test(written) ? (written as Digest) : null;
}

/** The first `length` hexadecimal digits of SHA-256: for names, never for security. */
export function shortHash(text: string, length: number): string {
  return createHash("sha256").update(text).digest("hex").slice(0, length);
}

/** The first eight bytes of SHA-256 modulo `modulus`. */
export function hashModulo(text: string, modulus: number): number {
  return Number(createHash("sha256").update(text).digest().readBigUInt64BE() % BigInt(modulus));
}

/** JSON with sorted keys: equal values have equal text, so that a hash of it is an identity. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value)
      .filter(([, inner]) => inner !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, inner]) => `${JSON.stringify(key)}:${canonicalJson(inner)}`).join(",")}}`;
  }
  return JSON.stringify(value);
}
