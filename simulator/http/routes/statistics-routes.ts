import { type Asked, type Operation, reads, reply } from "./operation.ts";

/** `/statistics/devices` and `/statistics/service` */
export function routeStatistics({ hub, method }: Asked, segments: readonly string[]): Operation | null {
  const [what, beyond] = segments;
  if (method !== "GET" || beyond !== undefined || (what !== "devices" && what !== "service")) return null;
  return reads({ operation: "identity", device: null, cost: 1 }, `statistics.${what}`, () => {
    const all = [...hub.registry.devices()];
    if (what === "service") {
      const connected = all.filter(
        (identity) => hub.activityOf(identity.deviceId).connectionState === "Connected",
      );
      return reply({ connectedDeviceCount: connected.length });
    }
    const enabled = all.filter((identity) => identity.enabled).length;
    return reply({
      totalDeviceCount: all.length,
      enabledDeviceCount: enabled,
      disabledDeviceCount: all.length - enabled,
    });
  });
}
