import { createHash } from "node:crypto";

/** Numbers in [0, 1) that depend on the seed and on nothing else. */
export type Random = () => number;

/** mulberry32: small, fast, and good enough to make fleets uneven. Never for keys. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** 32 bits of FNV-1a with a final mix: spreads ids evenly, cheap enough for every report of every device. */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Where a name falls in [0, 1): stable for a seed. */
export function shareOf(text: string): number {
  return hash32(text) / 4_294_967_296;
}

/** 32 bytes in base64 for a seed and a purpose: throwaway keys of a simulated hub, the same at every run. */
export function seededKey(seed: number, purpose: string): string {
  return createHash("sha256").update(`edgefleet-simulator/${seed}/${purpose}`).digest("base64");
}
