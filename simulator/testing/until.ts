/** Less than a test may take, so that it is this that fails; on a machine that does much else things take their time. */
const PATIENCE = 50_000;

/** Resolves once it is so. For what gives no notice when it happens. */
export async function until(happened: () => boolean): Promise<void> {
  for (const end = Date.now() + PATIENCE; !happened(); await turn())
    if (Date.now() > end) throw new Error("it did not happen in time");
}

export function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}
