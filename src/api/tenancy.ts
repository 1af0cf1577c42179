import { redacted } from "../base/redact.ts";
import { type Instant, parseTimestamp, TIMESTAMP_FORM } from "../base/time.ts";
import type { BlobReference } from "./model-release.ts";

// What a namespace may use of what all namespaces share: blobs of the store and identities of the hub. Whoever
// administers namespaces says so by annotations on the Namespace, which tenants cannot write. docs/security.md has the
// syntax for people.

export const BLOBS_ANNOTATION = "edgefleet.dev/blob-prefixes";
export const DEVICES_ANNOTATION = "edgefleet.dev/device-ids";
export const ADOPT_ANNOTATION = "edgefleet.dev/adopt-identities";
/** On a Namespace for all of its EdgeDevices, or on one EdgeDevice: until when a mass deletion may go on. */
export const ALLOW_DELETIONS_ANNOTATION = "edgefleet.dev/allow-deletions-until";

/** Characters, and `ANY` for what may be any run of characters. */
type Pattern = readonly (string | typeof ANY)[];
const ANY = Symbol("any run of characters");

type BlobGrant = { readonly container: string; readonly segments: readonly string[] };

/** What one namespace may use. */
export type Grant = {
  readonly blobs: "all" | readonly BlobGrant[];
  readonly deviceIds: "all" | readonly Pattern[];
  /** Identities that exist on the hub and that the operator did not create; only among `deviceIds`. */
  readonly adopt: "all" | readonly Pattern[];
  /** Whether one tenant has everything: then nothing has to be kept from it. */
  readonly isOpen: boolean;
  readonly allowDeletionsUntil: Instant | null;
  /** What is not understood, by annotation; it grants nothing. */
  readonly mistakes: Readonly<Partial<Record<GrantAnnotation, string>>>;
};

export type GrantAnnotation =
  | typeof BLOBS_ANNOTATION
  | typeof DEVICES_ANNOTATION
  | typeof ADOPT_ANNOTATION
  | typeof ALLOW_DELETIONS_ANNOTATION;

/** What every domain room asks: the grant of a namespace at this moment. */
export type GrantOf = (namespace: string) => Grant;

export const OPEN_GRANT: Grant = {
  blobs: "all",
  deviceIds: "all",
  adopt: "all",
  isOpen: true,
  allowDeletionsUntil: null,
  mistakes: {},
};
export const CLOSED_GRANT: Grant = { ...OPEN_GRANT, blobs: [], deviceIds: [], adopt: [], isOpen: false };

const SWITCH: ReadonlyMap<string, Grant["adopt"]> = new Map<string, Grant["adopt"]>([
  ["true", "all"],
  ["false", []],
]);
const LONGEST_ANNOTATION = 65_536;
const LONGEST_SHOWN = 100;

/** Reads a Namespace's annotations. What is missing or not understood grants nothing. */
export function grantOf(annotations: Readonly<Record<string, string>>): Grant {
  const mistakes: Partial<Record<GrantAnnotation, string>> = {};
  const read = (name: GrantAnnotation): string => {
    const text = Object.hasOwn(annotations, name) ? (annotations[name] ?? "") : "";
    if (text.length <= LONGEST_ANNOTATION) return text;
    mistakes[name] = `it is longer than ${LONGEST_ANNOTATION} characters`;
    return "";
  };
  const blobs = read(BLOBS_ANNOTATION);
  const deviceIds = read(DEVICES_ANNOTATION);
  const adopt = read(ADOPT_ANNOTATION).trim();
  const until = read(ALLOW_DELETIONS_ANNOTATION);
  const allowDeletionsUntil = deletionsUntil(until);
  if (until !== "" && allowDeletionsUntil === null)
    mistakes[ALLOW_DELETIONS_ANNOTATION] = `it is not ${TIMESTAMP_FORM}`;
  return {
    blobs: blobGrants(blobs, (mistake) => {
      mistakes[BLOBS_ANNOTATION] ??= mistake;
    }),
    deviceIds: patterns(deviceIds),
    adopt: SWITCH.get(adopt) ?? patterns(adopt),
    isOpen: false,
    allowDeletionsUntil,
    mistakes,
  };
}

/** The time in an `allow-deletions-until` annotation; `null`: none, or not a time. */
export function deletionsUntil(text: string | undefined): Instant | null {
  return parseTimestamp((text ?? "").trim());
}

export function mayUseBlob({ blobs }: Grant, { container, path }: BlobReference): boolean {
  if (blobs === "all") return true;
  const segments = path.split("/");
  // A path that a client, a proxy or a person would read as another one matches no prefix.
  if (segments.some((segment) => segment === "" || segment === "." || segment === "..")) return false;
  if (/[\\%\p{Cc}]/u.test(path)) return false;
  return blobs.some(
    (granted) =>
      granted.container === container &&
      granted.segments.length <= segments.length &&
      granted.segments.every((segment, index) => segment === segments[index]),
  );
}

export function mayUseDevice({ deviceIds }: Grant, id: string): boolean {
  return deviceIds === "all" || deviceIds.some((pattern) => matchesPattern(pattern, id));
}

/** Whether the namespace may take over an identity that exists and is not its own. */
export function mayAdopt(grant: Grant, id: string): boolean {
  const { adopt } = grant;
  return mayUseDevice(grant, id) && (adopt === "all" || adopt.some((pattern) => matchesPattern(pattern, id)));
}

/** Names the annotation and what to ask for; never whether the blob exists, or what is in it. */
export function blobRefusal(namespace: string, grant: Grant, { container, path }: BlobReference): string {
  return refusal(namespace, grant, BLOBS_ANNOTATION, `blob ${container}/${path}`, "a prefix of it");
}

export function deviceRefusal(namespace: string, grant: Grant, id: string): string {
  return refusal(namespace, grant, DEVICES_ANNOTATION, `device id ${id}`, "a pattern that matches it");
}

export function adoptionRefusal(namespace: string, grant: Grant, id: string): string {
  return refusal(
    namespace,
    grant,
    ADOPT_ANNOTATION,
    `an identity ${id} that was not created for this EdgeDevice`,
    '"true" or a pattern that matches it',
  );
}

function refusal(
  namespace: string,
  { mistakes }: Grant,
  annotation: GrantAnnotation,
  what: string,
  ask: string,
): string {
  const mistake = mistakes[annotation];
  const unread = mistake === undefined ? "" : ` (part of it is invalid: ${mistake})`;
  return `namespace ${namespace} is not permitted to use ${what}: ask its administrator to add ${ask} to its annotation ${annotation}${unread}`;
}

type Char = { readonly text: string; readonly escaped: boolean };

/** Items between commas, without the blanks around them; a backslash takes its meaning from the character behind it. */
function itemsOf(text: string): readonly (readonly Char[])[] {
  const items: Char[][] = [[]];
  let escaped = false;
  for (const char of text) {
    if (!escaped && char === "\\") escaped = true;
    else if (!escaped && char === ",") items.push([]);
    else {
      items.at(-1)?.push({ text: char, escaped });
      escaped = false;
    }
  }
  return items.map(trimmed).filter((item) => item.length > 0);
}

function trimmed(item: readonly Char[]): readonly Char[] {
  const isInk = ({ text, escaped }: Char) => escaped || text.trim() !== "";
  const from = item.findIndex(isInk);
  return from < 0 ? [] : item.slice(from, item.findLastIndex(isInk) + 1);
}

function isWildcard({ text, escaped }: Char): boolean {
  return text === "*" && !escaped;
}

function patterns(text: string): "all" | readonly Pattern[] {
  const items = itemsOf(text);
  if (items.some((item) => item.every(isWildcard))) return "all";
  return items.map((item) => item.map((char) => (isWildcard(char) ? ANY : char.text)));
}

function blobGrants(annotation: string, complain: (mistake: string) => void): "all" | readonly BlobGrant[] {
  const items = itemsOf(annotation);
  if (items.some((item) => item.length === 1 && item.every(isWildcard))) return "all";
  return items.flatMap((item) => {
    const text = item.map((char) => char.text).join("");
    const shown = redacted(text, LONGEST_SHOWN);
    if (item.some(isWildcard)) {
      complain(
        `"${shown}" contains a * that is not on its own; a prefix always includes everything below it`,
      );
      return [];
    }
    const [container = "", ...rest] = text.split("/");
    const segments = rest.at(-1) === "" ? rest.slice(0, -1) : rest;
    if (container === "" || segments.some((segment) => ["", ".", ".."].includes(segment))) {
      complain(`"${shown}" is not container/prefix`);
      return [];
    }
    return [{ container, segments }];
  });
}

/** Linear in both for practical purposes: on a mismatch it goes back to the last `ANY` only. */
function matchesPattern(pattern: Pattern, text: string): boolean {
  const chars = [...text];
  let at = 0;
  let position = 0;
  let retry: { readonly at: number; readonly position: number } | null = null;
  while (position < chars.length) {
    if (pattern[at] === ANY) {
      retry = { at: at + 1, position };
      at += 1;
    } else if (at < pattern.length && pattern[at] === chars[position]) {
      at += 1;
      position += 1;
    } else if (retry !== null) {
      retry = { at: retry.at, position: retry.position + 1 };
      ({ at, position } = retry);
    } else return false;
  }
  return pattern.slice(at).every((part) => part === ANY);
}
