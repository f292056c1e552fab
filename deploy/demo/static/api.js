// Calls the demo's JSON routes.

export class ApiError extends Error {}

/** The answer of a route, or an ApiError with the server's own words. */
export async function get(path, parameters = {}, signal = undefined) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(given).toString();
  let answer;
  try {
    answer = await fetch(query ? `${path}?${query}` : path, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The demo cannot be reached. Is it still running in the terminal?");
  }
  const body = await answer.json().catch(() => ({ error: `got status ${answer.status} without words` }));
  if (!answer.ok) throw new ApiError(body.error);
  return body;
}
