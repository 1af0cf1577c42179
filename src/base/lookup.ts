// Objects as dictionaries. Every object inherits `constructor`, `toString` and their like, and an assignment to
// `__proto__` changes what it inherits: names from outside are looked up only
// here, which test/indexing.test.ts checks.

/** What the object itself has under a name; `undefined` where it has nothing. */
export function own<T>(object: Readonly<Record<string, T>> | null | undefined, name: string): T | undefined {
  return object !== null && object !== undefined && Object.hasOwn(object, name) ? object[name] : undefined;
}

/** Sets a name as data, whatever it is called. */
export function setOwn<T>(target: Record<string, T>, name: string, value: T): void {
  if (name !== "__proto__") target[name] = value;
  else Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
}

declare const BARE: unique symbol;
/** An object that inherits nothing: it may be indexed by any name. `dictionary` is the only way to make one. */
export type Dictionary<T> = { readonly [name: string]: T } & { readonly [BARE]: true };

export function dictionary<T>(entries: Iterable<readonly [string, T]>): Dictionary<T> {
  return Object.assign(Object.create(null) as object, Object.fromEntries(entries)) as Dictionary<T>;
}
