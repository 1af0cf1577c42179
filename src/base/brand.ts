declare const brand: unique symbol;

/** A value that one function has checked: `Brand<string, "DeviceId">` is a string that the parser of device ids let through. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };
