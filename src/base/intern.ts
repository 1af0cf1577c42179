/** Gives the same string object for equal strings. */
export type Intern = (text: string) => string;

const MOST = 20_000;

/**
 * Of the strings of a fleet most are the same few (names of releases, digests, classes), and they are most of what a cache
 * weighs. It forgets everything when it is full, so that texts that devices invent cannot fill the memory.
 */
export function createIntern(): Intern {
  const known = new Map<string, string>();
  return (text) => {
    const same = known.get(text);
    if (same !== undefined) return same;
    if (known.size >= MOST) known.clear();
    known.set(text, text);
    return text;
  };
}
