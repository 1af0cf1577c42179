/** One call of the control API. A refusal throws with everything that is wrong. */
export async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }),
  });
  const text = await response.text();
  if (response.ok) return text === "" ? null : JSON.parse(text);
  throw new Error(refusalIn(text) ?? `${method} ${path} was answered with ${response.status}`);
}

function refusalIn(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return undefined;
  }
}
