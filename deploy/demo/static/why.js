// The panel that says why a product stands where it does.

import { byId, element, plural, swatch } from "./dom.js";

const GROUPS = {
  retrieval: "First-stage score",
  popularity: "Popularity",
  price: "Price",
  promotion: "Promotion",
  "bought before": "Bought before",
  taste: "Taste",
  shopper: "Shopper's habits",
  "similar shoppers": "Similar shoppers",
  product: "The product itself",
  sequence: "Recent baskets",
  query: "The words searched for",
  category: "What is learned of the category",
};

const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const ago = (days) => (days ? `${plural(days, "day")} ago` : "today");
const signed = (value) => `${value > 0 ? "+" : "−"}${Math.abs(value).toPrecision(2)}`;

/** Shows the panel for one candidate. */
export function showWhy(page, candidate, close) {
  const panel = byId("why");
  panel.replaceChildren(
    element("button", { class: "quiet close", type: "button", "aria-label": "Close", on: { click: close } }, "✕"),
    element("h2", {}, candidate.title, candidate.size ? ` · ${candidate.size}` : ""),
    element(
      "p", { class: "place" }, swatch(candidate.colour), candidate.category,
      candidate.brand && element("span", { class: "badge" }, `${candidate.brand} brand`),
      candidate.promoted && element("span", { class: "badge" }, "promoted"),
      candidate.bought_next && element("span", { class: "truth" }, "✓ bought this week"),
    ),
    path(page, candidate),
    element("h3", {}, "What moved it most"),
    groups(page, candidate),
    candidate.score !== null && element("h3", {}, "Score and probabilities"),
    element("dl", { class: "pairs" }, numbers(candidate).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
  );
}

export function showNothing() {
  byId("why").replaceChildren(element("p", { class: "said" }, "Point at a product, or press j, to see why it stands where it does."));
}

export function openSheet(isOpen) {
  byId("why").dataset.open = String(isOpen);
}

function path(page, candidate) {
  const [from, to] = [candidate.retrieval_rank + 1, candidate.rank + 1];
  if (page.degraded) return element("p", { class: "path" }, "Place ", element("b", {}, String(from)), ", not reranked");
  const by = candidate.movement;
  return element(
    "p", { class: "path" }, "Place ", element("b", {}, String(from)), " → ", element("b", {}, String(to)),
    by ? element("span", { class: by > 0 ? "up" : "down" }, by > 0 ? `  ▲ ${by}` : `  ▼ ${-by}`) : "  unmoved",
  );
}

function groups(page, candidate) {
  if (!candidate.explanation.length) {
    return element("p", { class: "said" }, page.degraded ? "This page was not scored." : "No feature group moved its score.");
  }
  const all = page.candidates.flatMap((one) => one.explanation.map((part) => Math.abs(part.contribution)));
  const largest = Math.max(...all);
  return element(
    "ul", { class: "groups" },
    candidate.explanation.map(({ group, contribution }) => {
      const bar = element("i", { class: contribution > 0 ? "more-of-it" : "less" });
      bar.style.width = `${Math.max(2, 50 * Math.sqrt(Math.abs(contribution) / largest))}%`;
      return element(
        "li", {}, element("span", {}, GROUPS[group] ?? group), element("span", { class: "track", "aria-hidden": "true" }, bar),
        element("output", { class: contribution > 0 ? "up" : "down" }, signed(contribution)),
      );
    }),
  );
}

function numbers(candidate) {
  const rows = [];
  if (candidate.score !== null) rows.push(["Score", candidate.score.toPrecision(3)]);
  for (const [objective, share] of Object.entries(candidate.probabilities)) {
    // a product can be tried once only: its probability is learned from products never bought
    if (objective !== "trial" || !candidate.bought_before) rows.push([`P(${objective})`, percent(share)]);
  }
  rows.push(["First-stage score", candidate.retrieval_score.toFixed(2)]);
  rows.push(["Bought before", candidate.bought_before ? `${plural(candidate.bought_before, "time")}, last ${ago(candidate.bought_days_ago)}` : "never"]);
  if (candidate.maker) rows.push(["Maker", `number ${candidate.maker}`]);
  rows.push(["Product id", candidate.id]);
  return rows;
}
