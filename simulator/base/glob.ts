/** `*` stands for any text, `?` for one character; everything else for itself. */
export function globMatcher(glob: string): (text: string) => boolean {
  if (glob === "*") return () => true;
  if (!/[*?]/.test(glob)) return (text) => text === glob;
  const pattern = glob
    .replace(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  const regex = new RegExp(`^${pattern}$`, "s");
  return (text) => regex.test(text);
}
