/** A word that users should not read, and what to write instead. */
type Banned = { readonly pattern: RegExp; readonly instead: string };

export type BannedWord = { readonly word: string; readonly instead: string; readonly index: number };

const BANNED: readonly Banned[] = [
  { pattern: /\b(?:told|tells?|telling)\b/, instead: "say, report, show or pass to" },
  { pattern: /\bnobody\b/, instead: "no one, or what there is none of: no user, no client, no device" },
  { pattern: /\bsomebody\b/, instead: "someone, or who it is: a user, another client" },
  { pattern: /\b(?:whoever|whomever)\b/, instead: "who it is: the administrator, the caller" },
  { pattern: /\banew\b/, instead: "again" },
  { pattern: /\bby (?:itself|themselves)\b/, instead: "automatically" },
  { pattern: /\b(?:tried|tries) again\b/, instead: '"retried", or "will be retried automatically"' },
  { pattern: /\bgo(?:es)? on\b/, instead: "continue, or continues automatically" },
  { pattern: /\b(?:takes?|took|taking) the place of\b/, instead: "replaces" },
  {
    pattern: /\b(?:earlier|former|this) life\b/,
    instead: '"previous run", or the generation of an identity',
  },
  {
    pattern:
      /(?<!\bthere )\b(?:is|are|was) no (?!longer\b|more\b|fewer\b|less\b|larger\b|older\b|newer\b|such\b)/,
    instead: '"is not a"',
  },
  { pattern: /\bunsures?\b/, instead: "unknown, uncertain or undocumented" },
  { pattern: /\bnonsense\b/, instead: "invalid, malformed" },
  { pattern: /\bfor people\b/, instead: "human-readable" },
  { pattern: /\bshall\b/, instead: "should, must or will" },
  { pattern: /\b(?:taken|takes?|took) back\b/, instead: "rolled back, withdrawn" },
  { pattern: /\ball the same\b/, instead: "regardless, still" },
];

/** The banned words of a text, in order, however they are capitalized. */
export function bannedWordsIn(text: string): readonly BannedWord[] {
  return BANNED.flatMap(({ pattern, instead }) =>
    [...text.matchAll(new RegExp(pattern, "gi"))].map((match) => ({
      word: match[0].trim(),
      instead,
      index: match.index,
    })),
  ).sort((one, other) => one.index - other.index);
}
