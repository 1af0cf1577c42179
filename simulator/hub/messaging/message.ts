/** Keys and values that ride on a message; `null` is a key without a value. */
export type PropertyBag = Readonly<Record<string, string | null>>;

/** Bytes as the hub counts them against its limits: the body, the names and values of properties, values of system properties. */
export function messageSize(message: {
  readonly body: Buffer;
  readonly properties: PropertyBag;
  readonly systemProperties: PropertyBag;
}): number {
  let size = message.body.length;
  for (const [name, value] of Object.entries(message.properties))
    size += Buffer.byteLength(name) + Buffer.byteLength(value ?? "");
  for (const value of Object.values(message.systemProperties)) size += Buffer.byteLength(value ?? "");
  return size;
}
