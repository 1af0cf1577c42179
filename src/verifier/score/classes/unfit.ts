import { type Head, listed } from "./heads.ts";

// Why an output and labels do not go together: a fault of what was asked, not of the model.

/** What is wrong with what was asked, and not with the model. */
export type Unfit = { readonly because: "misfit" | "ambiguous" | "bound"; readonly message: string };

export function unfit(because: Unfit["because"], message: string): Unfit {
  return { because, message };
}

export function misfit(message: string): Unfit {
  return unfit("misfit", message);
}

export function ambiguous(heads: readonly Head[]): Unfit {
  return unfit(
    "ambiguous",
    `more than one output is possible: ${listed(heads.map((head) => head.output))}; name the one that is scored (golden.output, --golden-output)`,
  );
}

export function strangeLabels(
  vocabulary: readonly string[],
  names: readonly string[] | null,
  { output, classes }: Pick<Head, "output" | "classes">,
): Unfit {
  const strange = vocabulary.filter((word) =>
    names === null ? !(/^\d{1,9}$/.test(word) && Number(word) < classes) : !names.includes(word),
  );
  const known = names === null ? `0 to ${classes - 1}` : listed(names);
  const hint = names === null ? "; golden.classes says which labels the classes have" : "";
  return misfit(
    `label ${strange.some((word) => /\s/.test(word)) ? listed(strange) : listed(strange).replaceAll('"', "")} is none of the ${classes} classes of output "${output}" (${known})${hint}`,
  );
}
