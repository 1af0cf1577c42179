// Objects as dictionaries. Every object inherits `constructor`, `toString` and their like, and an assignment to
// `__proto__` changes what it inherits: a name from outside is looked up here.

/** What the object itself has under a name; `undefined` where it has nothing. */
export function own<T>(object: Readonly<Record<string, T>> | undefined, name: string): T | undefined {
  return object !== undefined && Object.hasOwn(object, name) ? object[name] : undefined;
}

declare const BARE: unique symbol;
/** An object that inherits nothing: it may be indexed by any name. `dictionary` is the only way to make one. */
export type Dictionary<T> = { readonly [name: string]: T } & { readonly [BARE]: true };

export function dictionary<T>(entries: Iterable<readonly [string, T]>): Dictionary<T> {
  return Object.assign(Object.create(null) as object, Object.fromEntries(entries)) as Dictionary<T>;
}
