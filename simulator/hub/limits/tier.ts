/** Tiers of IoT Hub: free, basic (B) and standard (S). */
export const TIERS = ["F1", "B1", "B2", "B3", "S1", "S2", "S3"] as const;
export type Tier = (typeof TIERS)[number];

/** Basic tiers have identities, modules left out, and messages from devices; nothing that the cloud says to a device. */
export function isBasic(tier: Tier): boolean {
  return tier.startsWith("B");
}

/** Tables of rates give one column to each size; the free tier has that of the smallest. */
export function sizeOf(tier: Tier): 1 | 2 | 3 {
  switch (tier) {
    case "F1":
    case "B1":
    case "S1":
      return 1;
    case "B2":
    case "S2":
      return 2;
    case "B3":
    case "S3":
      return 3;
  }
}

/** Units that one hub may have. Source: Microsoft's limits of IoT Hub. */
export function maximumUnits(tier: Tier): number {
  if (tier === "F1") return 1;
  return sizeOf(tier) === 3 ? 10 : 200;
}
