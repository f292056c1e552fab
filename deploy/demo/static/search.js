// The search box with its suggestions: an ARIA combobox.

import { get } from "./api.js";
import { byId, element } from "./dom.js";

const PAUSE_MS = 110;
let timer = 0;
let asked = null;
let chosen = -1;

/** Connects the box; `shopper()` gives the present one, `submit(text)` runs a search. */
export function connect({ shopper, submit }) {
  const box = byId("query");
  box.addEventListener("input", () => suggestSoon(shopper));
  box.addEventListener("focus", () => suggestSoon(shopper));
  box.addEventListener("blur", () => setTimeout(hide, 120));
  box.addEventListener("keydown", (event) => {
    const options = byId("suggestions").children;
    if (event.key === "Enter") {
      const text = options[chosen]?.dataset.query ?? box.value;
      take(text, submit);
    } else if (event.key === "Escape") {
      hide();
      box.blur();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!options.length) return;
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : -1) + options.length) % options.length;
      [...options].forEach((option, index) => option.setAttribute("aria-selected", String(index === chosen)));
      box.setAttribute("aria-activedescendant", options[chosen].id);
    }
  });
  byId("suggestions").addEventListener("pointerdown", (event) => {
    const query = event.target.closest("li")?.dataset.query;
    if (query === undefined) return;
    event.preventDefault();
    take(query, submit);
  });
}

function take(text, submit) {
  const box = byId("query");
  box.value = text;
  hide();
  box.blur();
  if (text.trim()) submit(text);
}

function suggestSoon(shopper) {
  clearTimeout(timer);
  timer = setTimeout(() => suggest(shopper()), PAUSE_MS);
}

async function suggest(shopper) {
  asked?.abort();
  asked = new AbortController();
  const box = byId("query");
  try {
    const { suggestions } = await get("/api/suggest", { q: box.value, shopper }, asked.signal);
    if (document.activeElement === box) show(suggestions);
  } catch {
    hide(); // A search works without suggestions.
  }
}

function show(suggestions) {
  const list = byId("suggestions");
  list.replaceChildren(
    ...suggestions.map(({ query, category }, index) =>
      element("li", { role: "option", id: `suggestion-${index}`, "aria-selected": "false", "data-query": query }, element("span", {}, query), element("small", {}, category ?? "")),
    ),
  );
  chosen = -1;
  list.hidden = !suggestions.length;
  byId("query").setAttribute("aria-expanded", String(!list.hidden));
  byId("query").removeAttribute("aria-activedescendant");
}

function hide() {
  clearTimeout(timer);
  asked?.abort();
  byId("suggestions").hidden = true;
  byId("query").setAttribute("aria-expanded", "false");
  byId("query").removeAttribute("aria-activedescendant");
  chosen = -1;
}
