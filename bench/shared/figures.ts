import { appendFileSync } from "node:fs";

/** One line of the table: what was measured, and what it is held against. */
export type Figure = {
  readonly what: string;
  readonly value: string;
  /** What design asks for, or what another program took; `quoted` says when that was measured in another run. */
  readonly against?: string;
};

/** Shows the figures of one program, and leaves them for the table of all where the caller asks for that. */
export function publish(title: string, figures: readonly Figure[]): void {
  console.log(`\n${tableOf([{ title, figures }])}`);
  const file = process.env["EDGEFLEET_BENCH_FIGURES"];
  if (file !== undefined) appendFileSync(file, `${JSON.stringify({ title, figures })}\n`);
}

export type Section = { readonly title: string; readonly figures: readonly Figure[] };

export function tableOf(sections: readonly Section[]): string {
  const rows = sections.flatMap(({ figures }) => figures);
  const wide = (pick: (figure: Figure) => string) => Math.max(0, ...rows.map((row) => pick(row).length));
  const [what, value] = [wide((row) => row.what), wide((row) => row.value)];
  return sections
    .map(({ title, figures }) =>
      [
        title,
        ...figures.map((row) =>
          `  ${row.what.padEnd(what)}  ${row.value.padStart(value)}  ${row.against ?? ""}`.trimEnd(),
        ),
      ].join("\n"),
    )
    .join("\n\n");
}

/** `12.3 s` below two minutes, `2 min 3 s` from there on. */
export function secondsText(milliseconds: number): string {
  if (milliseconds < 120_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  const whole = Math.round(milliseconds / 1000);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** The smallest value that `share` of all are not above; of none it is NaN. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}
