/** What a connection Secret holds: everything a device needs to connect with a symmetric key. */
export function connectionData(
  host: string,
  deviceId: string,
  keys: { readonly primaryKey: string; readonly secondaryKey: string },
): Readonly<Record<string, string>> {
  return {
    hostName: host,
    deviceId,
    primaryKey: keys.primaryKey,
    secondaryKey: keys.secondaryKey,
    connectionString: `HostName=${host};DeviceId=${deviceId};SharedAccessKey=${keys.primaryKey}`,
  };
}
