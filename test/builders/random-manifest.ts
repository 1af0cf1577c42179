import { seededRandom } from "./verifier/onnx-model.ts";

// Manifests of a ModelRelease as people, templates and accidents write them: most of them are sound, and in each a few
// places are spelt in one of the many ways of YAML 1.1.

type Random = () => number;

export type RandomManifest = { readonly name: string; readonly text: string };

const DIGEST = `sha256:${"0123456789abcdef".repeat(4)}`;

/** Texts that some reader of YAML takes for something else. */
export const HOSTILE_TEXTS: readonly string[] = [
  ...["0100", "017", "0o17", "0x1F", "0b11", "1_000", "1:30", "1:30.5", "-1", "+1", "1.0", "1e3", "1.5e-3"],
  ...[
    ".inf",
    "-.Inf",
    ".nan",
    ".5",
    "1.",
    "2001-01-01",
    "2001-12-14t21:59:43.10-05:00",
    "12e03",
    "09",
    "0_7",
  ],
  ...[
    "yes",
    "No",
    "ON",
    "off",
    "y",
    "N",
    "true",
    "False",
    "~",
    "null",
    "Null",
    "=",
    "<<",
    "1.2.3",
    "1.0.0-rc1",
  ],
];
/** Texts with characters that mean something to YAML, or end a line for some reader of it. */
export const AWKWARD_TEXTS: readonly string[] = [
  "a: b",
  "# c",
  "x?",
  "é\u0085\u2028\u007f",
  "*a",
  "- b",
  "'",
  '"\\/',
  "a, b",
  "%d",
  "line\nbreak",
  " space ",
];
const INTEGERS = [
  "100",
  "0100",
  "0o100",
  "0x40",
  "0b1100100",
  "1_00",
  "1e2",
  "100.0",
  '"100"',
  "!!int 0144",
  "017",
  "19",
  "+64",
];
const MORE_INTEGERS = [
  "1:40",
  "~",
  "yes",
  ".inf",
  "!!str 100",
  "9223372036854775808",
  "1e30",
  "20.5",
  "-0100",
  "[100]",
  "'0100'",
];
const DECIMALS = [
  '"0.93"',
  "1",
  "0",
  "0.93",
  "1e0",
  '"1e-3"',
  "'0.5'",
  "!!str 0.25",
  "01",
  "0x1",
  "1_0",
  "~",
  "y",
  '"95"',
  "1e-3",
];
const DURATIONS = [
  "100ms",
  "1m",
  '"20ms"',
  "20",
  '"20"',
  "1m30s",
  "!!str 5s",
  "1:30",
  "1_0s",
  ">-\n          20ms",
  "0100",
];
const TEXTS = [
  "digits",
  "'it'",
  '"d\\u0069gits"',
  "d # comment",
  "a.b",
  "!!str 0100",
  "!local text",
  "! 12",
  "!!binary ZGlnaXRz",
];
const KEYS = [
  "app",
  "example.com/line",
  "yes",
  "1",
  '"q"',
  "!!str 5",
  "a b",
  "on",
  "-x",
  "a/b/c",
  "UPPER",
  "example.com/",
  "null",
];
/** None is null: of that kubectl apply, kubectl create and lists in kubectl each make something else. */
const LABELS = [
  "a",
  '"7"',
  "'yes'",
  "7",
  "yes",
  "1.0",
  "a b",
  "-a",
  "2001-01-01",
  "1:30",
  '"0100"',
  "!!str 1",
  "&l x",
  "x".repeat(64),
];
/** All are texts: where one is none, kubectl drops all annotations of an object in a list. */
const NOTES = [
  "a",
  '"7"',
  "'yes'",
  "a b",
  "-a",
  "2001-01-01",
  "1:30",
  "!!str 1",
  "|-\n      x\n      y",
  "x".repeat(300),
];
const NAMES = [
  "0100",
  '"0100"',
  "a_b",
  "A",
  "a..b",
  "-a",
  "1e3",
  "!!str 7",
  "'a-1'",
  "yes",
  "a.b",
  "2001-01-01",
  "x".repeat(254),
];
const ANY = ["", "~", "1", "text", "[1]", "{a: b}", "yes"];

/** No texts: kubectl looks at those of a list itself. */
const STATUSES = ["{}", "~", "{ conditions: [] }", "{ a: b }"];
/** Those that are sound are there; all are texts: one that is none kubectl replaces in a list. */
const NAMESPACES = ["default", '"default"', "Default", "a.b"];

export function randomManifest(seed: number, number: number): RandomManifest {
  const random = seededRandom(seed);
  const chance = (share: number) => random() < share;
  const one = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T;
  const name = `m-${number}`;
  /** The usual text, or now and then one of the others. */
  const or = (usual: string, others: readonly string[], share = 0.07) =>
    chance(share) ? one(others) : usual;
  const version = or("1.0.0", chance(0.7) ? spelt(HOSTILE_TEXTS, random) : HOSTILE_TEXTS, 0.35);
  const lines = [
    ...(chance(0.1) ? ["# Source: fleet/templates/release.yaml"] : []),
    "apiVersion: edgefleet.dev/v1alpha1",
    "kind: ModelRelease",
    "metadata:",
    `  name: ${or(name, NAMES, 0.06)}`,
    ...metadata(random),
    "spec:",
    `  model: ${or("digits", [...TEXTS, ...HOSTILE_TEXTS], 0.1)}`,
    `  version: ${version}`,
    ...(chance(0.05) ? [`  version: ${one(HOSTILE_TEXTS)}`] : []),
    ...variants(random),
    ...verification(random, or),
    ...(chance(0.05) ? [`${one(["  extra", "extra"])}: ${one(ANY)}`] : []),
    ...(chance(0.08) ? [`status: ${one(STATUSES)}`] : []),
  ];
  return { name, text: framed(lines, random) };
}

/** In quotes, with a tag, or as a block. */
function spelt(texts: readonly string[], random: Random): readonly string[] {
  const forms = [
    (text: string) => `"${text}"`,
    (text: string) => `'${text}'`,
    (text: string) => `!!str ${text}`,
    (text: string) => `|-\n    ${text}`,
    (text: string) => `>-\n    ${text}`,
    (text: string) => `&version ${text}`,
    (text: string) => `!!int ${text}`,
    (text: string) => `!!float "${text}"`,
    (text: string) => `!!bool ${text}`,
    (text: string) => `!!timestamp ${text}`,
    (text: string) => `${text} # ${text}`,
  ];
  return texts.map((text) => (forms[Math.floor(random() * forms.length)] ?? String)(text));
}

function metadata(random: Random): readonly string[] {
  const chance = (share: number) => random() < share;
  const one = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T;
  const entries = (first: string, values: readonly string[]) => [
    `    ${first}: x`,
    ...(chance(0.5) ? [`    ${one(KEYS)}: ${one(values)}`] : []),
    ...(chance(0.15) ? [`    ${one(KEYS)}: ${one(values)}`] : []),
  ];
  return [
    ...(chance(0.25) ? ["  labels:", ...entries("first", LABELS)] : []),
    ...(chance(0.25) ? ["  annotations:", ...entries("note", NOTES)] : []),
    ...(chance(0.05) ? ["  creationTimestamp: null"] : []),
    ...(chance(0.08) ? [`  namespace: ${one(NAMESPACES)}`] : []),
    ...(chance(0.05)
      ? [`  ${one(["finalizers", "lables", "generation", "ownerReferences"])}: ${one(ANY)}`]
      : []),
  ];
}

function variants(random: Random): readonly string[] {
  const chance = (share: number) => random() < share;
  const first = [
    `    - ${chance(0.3) ? "&first\n      " : ""}name: fp32`,
    `      deviceClasses: [jetson-nano${chance(0.05) ? ", jetson-nano" : ""}]`,
    "      blob: &blob { container: models, path: digits/1.0.0/model.onnx }",
    `      digest: &digest ${DIGEST}`,
  ];
  const isAnchored = first[0]?.includes("&first") === true;
  const merged = chance(0.5)
    ? ["    - <<: *first", "      name: int8", "      deviceClasses: [jetson-xavier]"]
    : ["    - name: int8", "      <<: [{name: other, deviceClasses: [jetson-xavier]}, *first]"];
  const aliased = [
    "    - name: int8",
    "      deviceClasses: [jetson-xavier]",
    "      blob: *blob",
    "      digest: *digest",
  ];
  // A name, or a class of devices, that is there twice.
  const second = (isAnchored ? merged : aliased).map((line) =>
    chance(0.03) ? line.replace("int8", "fp32").replace("jetson-xavier", "a, a") : line,
  );
  if (chance(0.5)) return ["  variants:", ...first, ...second];
  return ["  variants:", ...first, ...(chance(0.1) ? ["    - *nothing"] : [])];
}

function verification(
  random: Random,
  or: (usual: string, others: readonly string[], share?: number) => string,
): readonly string[] {
  const chance = (share: number) => random() < share;
  const integers = [...INTEGERS, ...INTEGERS, ...INTEGERS, ...MORE_INTEGERS];
  return [
    "  verification:",
    `    timeout: ${or("1m", DURATIONS)}`,
    ...(chance(0.5)
      ? [
          "    golden:",
          "      blob: { container: models, path: digits/1.0.0/golden.npz }",
          `      digest: ${DIGEST}`,
          `      minimumAccuracy: ${or('"0.93"', DECIMALS, 0.25)}`,
        ]
      : []),
    ...(chance(0.7)
      ? [
          "    latency:",
          `      p95: ${or("100ms", DURATIONS, 0.12)}`,
          `      samples: ${or("100", integers, 0.4)}`,
          ...(chance(0.05) ? ["      samples: 25"] : []),
        ]
      : []),
    ...(chance(0.3)
      ? [`    determinism: { runs: ${or("3", ["03", "0x3", "1e1", "3.0", "~", "y"], 0.5)} }`]
      : []),
    ...(chance(0.2)
      ? [
          "    signature:",
          `      inputs: [{ name: ${or("x", HOSTILE_TEXTS, 0.3)}, type: float32, shape: [${or("n1", ["N", "y", '"N"', "010", "~"], 0.5)}, 8] }]`,
          "      outputs: [{ name: scores, type: float32, shape: [] }]",
        ]
      : []),
    ...(chance(0.06)
      ? [`    ${["latenzy", "memory", "throughput"][Math.floor(random() * 3)]}: ${or("~", ANY, 0.5)}`]
      : []),
  ];
}

/** The same document in another frame: a list, a stream, other line ends. */
function framed(lines: readonly string[], random: Random): string {
  const chance = (share: number) => random() < share;
  let text = `${lines.join("\n")}\n`;
  if (chance(0.1)) {
    const kind = chance(0.7)
      ? "apiVersion: v1\nkind: List"
      : "apiVersion: edgefleet.dev/v1alpha1\nkind: ModelReleaseList";
    text = `${kind}\nitems:\n- ${text.trimEnd().replaceAll("\n", "\n  ")}\n`;
  }
  const other = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: other }\n";
  if (chance(0.1)) text = `---\n${text}---\n# nothing\n---\n`;
  if (chance(0.08)) text = `${other}--- # next\n${text}`;
  if (chance(0.05)) text = `${text}...\n`;
  if (chance(0.03)) text = text.replace("\nspec:\n", "\nspec:\n\t\n");
  if (chance(0.03)) text = text.replace("\n  model", "\n\tmodel");
  if (chance(0.03)) text = text.replace("---\n", "--- x\n");
  if (chance(0.1)) text = `\uFEFF${text}`;
  if (chance(0.15)) text = text.replaceAll("\n", "\r\n");
  if (chance(0.1)) text = text.trimEnd();
  return text;
}

const SOUND = `apiVersion: edgefleet.dev/v1alpha1
kind: ModelRelease
metadata:
  name: NAME
spec:
  model: digits
  version: 1.0.0
  variants:
    - name: fp32
      blob: { container: models, path: digits/1.0.0/model.onnx }
      digest: ${DIGEST}
  verification:
    latency: { p95: 100ms, samples: 100 }
`;

/** What the manifest says of `samples`; `null`: it is refused. */
export type ChosenManifest = RandomManifest & { readonly what: string; readonly samples: number | null };

/** Forms that people have met, each with what kubectl makes of it. */
export const CHOSEN_MANIFESTS: readonly ChosenManifest[] = [
  ...(
    [
      ["0100", 64],
      ["0o100", 64],
      ["0x40", 64],
      ["0b1000000", 64],
      ["024", 20],
      ["031", 25],
      ["017", null],
      ["022", null],
      ["1_000", 1000],
      ["1e3", 1000],
      ["100.0", 100],
      ["1:40", null],
      ['"100"', null],
      ["!!int 0100", 64],
    ] as const
  ).map(([written, samples]) =>
    chosen(`samples: ${written}`, samples, (text) => text.replace("samples: 100", `samples: ${written}`)),
  ),
  chosen("an alias", 100, (text) =>
    text
      .replace("samples: 100", "samples: &runs 100, warmup: *runs")
      .replace("p95: 100ms", "p95: !!str 100ms"),
  ),
  chosen("a merge key", 30, (text) =>
    text.replace(
      "latency: { p95: 100ms, samples: 100 }",
      "latency: { p95: 1s, <<: { p95: 100ms, samples: 100 }, samples: 30 }",
    ),
  ),
  chosen("a merge key behind what it overrides", 100, (text) =>
    text.replace("{ p95: 100ms, samples: 100 }", "{ samples: 30, <<: { p95: 100ms, samples: 100 } }"),
  ),
  chosen("a key that is there twice", 30, (text) =>
    text.replace("samples: 100", "samples: 100, samples: 30"),
  ),
  chosen("a byte order mark", 100, (text) => `\uFEFF${text}`),
  chosen("line ends of Windows", 100, (text) => text.replaceAll("\n", "\r\n")),
  chosen(
    "what Helm writes",
    100,
    (text) =>
      `---\n# Source: fleet/templates/release.yaml\n${text}---\n# Source: fleet/templates/empty.yaml\n---\n`,
  ),
  chosen(
    "a list",
    100,
    (text) => `apiVersion: v1\nkind: List\nitems:\n- ${text.trimEnd().replaceAll("\n", "\n  ")}\n`,
  ),
  chosen("JSON", 100, () => JSON.stringify(soundObject("m-json"))),
  chosen("a tab", null, (text) => text.replace("  model:", "\tmodel:")),
  chosen("text behind the dashes", null, (text) => `--- release\n${text}`),
  chosen("an empty time and status", 100, (text) =>
    text.replace("spec:", "  creationTimestamp: null\nspec:").concat("status: {}\n"),
  ),
  chosen("an unknown field", null, (text) => text.replace("samples:", "sample:")),
  chosen("a name in capitals", null, (text) => text.replace("name: m-", "name: M-")),
  chosen("a label that is a number", null, (text) => text.replace("spec:", "  labels: { line: 7 }\nspec:")),
  chosen("a label that is too long", null, (text) =>
    text.replace("spec:", `  labels: { line: ${"x".repeat(64)} }\nspec:`),
  ),
  chosen("a label with a space", null, (text) => text.replace("spec:", "  labels: { line: a b }\nspec:")),
  chosen("a label without a name", null, (text) =>
    text.replace("spec:", "  labels: { example.com/: a }\nspec:"),
  ),
  chosen("annotations that are too large together", null, (text) =>
    text.replace("spec:", `  annotations: { a: ${"x".repeat(140_000)}, b: ${"x".repeat(140_000)} }\nspec:`),
  ),
  chosen("an owner that is a boolean", null, (text) =>
    text.replace("spec:", "  ownerReferences: [{ apiVersion: v1, kind: Node, name: y, uid: z }]\nspec:"),
  ),
  chosen("a decimal without quotes", null, (text) =>
    text.concat("    throughput: { minimumPerSecond: 0.5 }\n"),
  ),
  chosen("a decimal with an exponent", null, (text) =>
    text.concat('    throughput: { minimumPerSecond: "1e3" }\n'),
  ),
  chosen("a whole number with an exponent", 100, (text) =>
    text.concat("    throughput: { minimumPerSecond: 1e3 }\n"),
  ),
  chosen("a duration without its unit", null, (text) => text.replace("p95: 100ms", "p95: 20")),
  chosen("a size of an axis that is no name", null, (text) =>
    text.concat("    signature: { inputs: [{ name: x, type: float32, shape: [N, 4] }], outputs: [] }\n"),
  ),
];

function chosen(what: string, samples: number | null, change: (text: string) => string): ChosenManifest {
  const name = `m-${what.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}-0`;
  return { what, name, samples, text: change(SOUND.replace("NAME", name)) };
}

function soundObject(name: string): object {
  return {
    apiVersion: "edgefleet.dev/v1alpha1",
    kind: "ModelRelease",
    metadata: { name },
    spec: {
      model: "digits",
      version: "1.0.0",
      variants: [{ name: "fp32", blob: { container: "models", path: "digits/1.0.0" }, digest: DIGEST }],
      verification: { latency: { p95: "100ms", samples: 100 } },
    },
  };
}
