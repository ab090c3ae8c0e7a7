// The address is the state: whatever is shown is in it, so a link shows the same to somebody else.

export const FILTERS = [
  "text", "stage", "split", "mode", "stop", "env", "error", "from_step", "to_step", "from_reward", "to_reward", "task",
];

export const query = () => new URLSearchParams(location.search);
export const path = () => location.pathname;

// The address of a page with these parameters; empty ones are left out.
export function link(page, parameters) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters))
    for (const item of Array.isArray(value) ? value : [value])
      if (item !== "" && item !== null && item !== undefined) found.append(name, item);
  const text = found.toString();
  return text ? `${page}?${text}` : page;
}

// The parameters of the present address, the given ones changed.
export function changed(changes) {
  const now = {};
  for (const name of new Set(query().keys())) {
    const values = query().getAll(name);
    now[name] = values.length > 1 ? values : values[0];
  }
  return { ...now, ...changes };
}

// What of the present address chooses and sorts episodes.
export function chosen() {
  const found = {};
  for (const name of ["run", "sort", ...FILTERS]) found[name] = query().get(name) ?? "";
  return found;
}
