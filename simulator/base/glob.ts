/** `*` stands for any text, `?` for one character; everything else for itself. */
export function globMatcher(glob: string): (text: string) => boolean {
  if (glob === "*") return () => true;
  if (!/[*?]/.test(glob)) return (text) => text === glob;
  return (text) => matches(glob, text);
}

/**
 * Only the last star is ever tried again: what an earlier one took is as good as anything that it could have taken.
 * So forty stars cost no more than one, where a regular expression of them would never end.
 */
function matches(glob: string, text: string): boolean {
  let at = 0;
  let star = -1;
  let taken = 0;
  for (let read = 0; read < text.length; ) {
    if (glob[at] === "*") {
      star = at;
      taken = read;
      at += 1;
    } else if (at < glob.length && (glob[at] === "?" || glob[at] === text[read])) {
      at += 1;
      read += 1;
    } else if (star >= 0) {
      taken += 1;
      read = taken;
      at = star + 1;
    } else return false;
  }
  while (glob[at] === "*") at += 1;
  return at === glob.length;
}
