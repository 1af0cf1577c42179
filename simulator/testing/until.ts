/** Resolves once it is so; ten seconds are the test's failure. For what tells nobody when it happens. */
export async function until(happened: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !happened(); await turn())
    if (Date.now() > end) throw new Error("it did not happen in time");
}

export function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}
