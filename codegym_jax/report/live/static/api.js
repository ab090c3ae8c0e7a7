// Questions to the server.

export class Refused extends Error {}

export async function ask(name, parameters = {}, signal = undefined) {
  const asked = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters))
    if (value !== "" && value !== null && value !== undefined) asked.set(key, value);
  const response = await fetch(`/api/${name}?${asked}`, { signal });
  const answer = await response.json();
  if (!response.ok) throw new Refused(answer.error ?? response.statusText);
  return answer;
}

// The rows of metrics of each run; only what is new is asked for.
const feeds = new Map();

export async function rows(run) {
  const feed = feeds.get(run) ?? { generation: "", rows: [] };
  const fresh = await ask("metrics", { run, generation: feed.generation, count: feed.rows.length });
  const kept = fresh.generation === feed.generation ? feed.rows.slice(0, fresh.first) : [];
  feeds.set(run, { generation: fresh.generation, rows: kept.concat(fresh.rows) });
  return feeds.get(run).rows;
}
